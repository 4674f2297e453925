"""What a study will cost, measured on a few cases."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from medssl.config.finetune_schema import StudyConfig
from medssl.finetune.predictor import Predictor
from medssl.finetune.training import first_batch
from medssl.progress import Progress, SilentProgress
from medssl.training.devices import choose_device
from medssl.training.handlers.screen import format_duration
from medssl.training.precision import time_step
from medssl.training.run_folder import RunFolder
from medssl.training.settings import StepSettings
from medssl.workflows.cell import CellJob, start_cell
from medssl.workflows.score import score_cases
from medssl.workflows.study import count_workers, plan_study

CASES_MEASURED = 8


def estimate(
    source: Path, *, config: StudyConfig, encoder: Path | None, progress: Progress
) -> list[tuple[str, str]]:
    """Return what a study would train and how long that takes on this machine, as rows for the screen.

    Everything is prepared in a folder that is removed again. A step and a test case are timed with the
    plainest settings, so a study that finds faster ones takes less.
    """
    with tempfile.TemporaryDirectory(prefix="medssl-") as folder:
        run = RunFolder(Path(folder))
        plan = plan_study(
            run,
            source,
            config=config,
            encoder=encoder,
            store=Path(folder) / "store",
            progress=progress,
            command=(),
        )
        tuning = list(plan.tuning_jobs()) if len(config.study.learning_rates) > 1 else []
        rates = {(arm, budget): 1e-3 for arm in config.study.arms for budget in plan.tuned_budgets}
        cells = list(plan.test_jobs(rates))
        step_s, case_s = _measure(cells[0])
    updates = config.training.epochs * config.training.steps_per_epoch
    workers = count_workers(config)
    seconds = _seconds([*tuning, *cells], updates * step_s, case_s) / workers
    return [
        ("cases", f"{len(plan.pool)} to learn from, {len(plan.tuning)} to tune on, {len(plan.test)} to test"),
        ("label budgets", ", ".join(map(str, plan.budgets))),
        ("arms", ", ".join(config.study.arms)),
        ("models", f"{len(tuning)} to tune learning rates, {len(cells)} to report"),
        ("updates a model", f"{updates}, {step_s:.2g} s each"),
        ("a test case", f"{case_s:.2g} s"),
        ("at once", f"{workers}"),
        ("time in all", f"about {format_duration(seconds)}"),
    ]


def _seconds(jobs: Sequence[CellJob], training_s: float, case_s: float) -> float:
    return sum(training_s + len(job.judged) * case_s for job in jobs)


def _measure(job: CellJob) -> tuple[float, float]:
    """Return the seconds of a step and of a test case."""
    torch.set_num_threads(job.threads)
    device = choose_device(job.config.speed.device)
    start, stream = start_cell(job)
    step_s = time_step(
        start.model,
        first_batch(stream),
        objective=job.goal,
        speed=job.config.speed,
        optimiser=job.config.optimiser,
        device=device,
    )
    settings = StepSettings(str(device))
    settings.place(start.model).eval()
    predictor = Predictor([start.model], job.goal, job.crop_size, settings)
    judged = job.judged[:CASES_MEASURED]
    began = time.perf_counter()
    score_cases(predictor, judged, progress=SilentProgress())
    return step_s, (time.perf_counter() - began) / len(judged)
