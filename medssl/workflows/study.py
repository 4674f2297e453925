"""The label-efficiency study: pretrained beside from scratch, with few labels and more, with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from medssl.config.finetune_schema import StudyConfig
from medssl.errors import MedsslError, UsageError
from medssl.finetune.transfer import Pretrained
from medssl.progress import Progress, SilentProgress
from medssl.scans.manifest import write_skipped
from medssl.scans.prepare import Spacing
from medssl.scans.processes import Died, count_cores, run_jobs
from medssl.training.checkpoint import WATCHING_FIELDS
from medssl.training.devices import choose_device
from medssl.training.run_folder import LoggedProgress, RunFolder
from medssl.workflows.cell import CellJob, CellResult, read_result, run_cell
from medssl.workflows.cohort import tell_skipped
from medssl.workflows.labelled import (
    find_cases,
    plan_crop,
    prepare,
    refuse_one_class,
    tell_disagreement,
    usable_cases,
)
from medssl.workflows.run_start import record_split, record_start
from medssl.workflows.score import Row
from medssl.workflows.speed import settle_speed
from medssl.workflows.study_findings import StudyOutcome, write_findings
from medssl.workflows.study_plan import (
    COVARIATES_ONLY,
    StudyPlan,
    arm_transfer,
    choose_rates,
    set_tuning_aside,
)
from medssl.workflows.study_tables import (
    TUNING_TABLE,
    Scores,
    write_tables,
    write_tuning,
)

AGAINST = "scratch"

FREE_FIELDS = (*WATCHING_FIELDS, "study.labels", "study.seeds", "study.workers")
"""Settings that may change when a study goes on: more of the same, or other machines."""


def study(
    source: Path | None,
    *,
    config: StudyConfig,
    out: Path,
    encoder: Path | None = None,
    store: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> StudyOutcome:
    """Compare ways of making a model from few labels, or go on with a study.

    For each number of labels and each seed every arm gets the same labelled subset, updates and augmentation;
    the learning rate of each arm is tuned on labelled cases that are neither learned from nor tested; what is
    kept is the last state of the network. Test cases are the same throughout.

    Args:
        source: A data set whose table sets test cases aside; None on resume.
        config: Of the study.
        out: Its folder, made here unless ``resume``.
        encoder: The pretrained encoder of the arms that name none.
        store: Where prepared scans lie, by default ``medssl-store`` beside ``out``.
        resume: Whether to go on with the study in ``out``; models that are finished are not trained again.
        progress: Who is told; nobody by default.
        command: What the user typed, for the record.

    Raises:
        MedsslError: As its subclasses tell; the folder records how it ended.
    """
    with RunFolder.open(out, resume=resume) as run:
        told = LoggedProgress(progress or SilentProgress(), run)
        plan = plan_study(
            run, source, config=config, encoder=encoder, store=store, progress=told, command=command
        )
        plan = settle_speed(plan, run)
        tell_plan(plan, progress=told)
        scores = _tune(plan, progress=told)
        rates = choose_rates(scores)
        write_tuning(out / TUNING_TABLE, scores, rates)
        jobs = list(plan.test_jobs(rates))
        for _ in _run(jobs, plan, what="Training and testing", progress=told):
            write_tables(out, jobs)
        write_tables(out, jobs)
        return write_findings(plan, scores, rates)


def plan_study(
    run: RunFolder,
    source: Path | None,
    *,
    config: StudyConfig,
    encoder: Path | None,
    store: Path | None,
    progress: Progress,
    command: Sequence[str],
) -> StudyPlan:
    """Find and prepare the cases, set some aside for tuning, and settle what all cells share.

    Raises:
        UsageError: If there are no test cases, too few cases, or an arm has no encoder.
        NoUsableScanError: If not one case of a kind can be used.
    """
    places = record_start(
        run,
        source,
        encoder=encoder,
        store=store,
        config=config,
        command=command,
        free=FREE_FIELDS,
    )
    encoders = _find_encoders(config, places.encoder)
    found = {path: Pretrained.find(path) for path in encoders.values() if path}
    first = next(iter(found.values()), None)
    labelled = find_cases(
        places.source, config=config, pretrained=first, store=places.store, progress=progress
    )
    if not labelled.test:
        raise UsageError(
            "A study needs fixed test cases: add a column split to the table, with the value test for them."
        )
    pool, tuning = set_tuning_aside(labelled.pool, count=config.study.tuning_cases, seed=config.training.seed)
    prepared, skipped = prepare(labelled, [*pool, *tuning, *labelled.test], progress=progress)
    write_skipped(run.skipped, [*labelled.skipped, *skipped])
    if skipped:
        progress.warn(tell_skipped(skipped, table=run.skipped))
    if first:
        tell_disagreement(first, prepared, progress=progress)
    _tell_other_spacings(found, labelled.spacing_mm, progress=progress)
    sides = {
        name: usable_cases(cases, prepared, skipped, what=f"{name} cases")
        for name, cases in (("pool", pool), ("tuning", tuning), ("test", labelled.test))
    }
    for name in ("tuning", "test"):
        refuse_one_class(labelled, sides[name], what=f"{name} cases")
    record_split(run, sides)
    return StudyPlan(
        folder=run.path,
        config=config,
        labelled=labelled,
        pool=sides["pool"],
        tuning=sides["tuning"],
        test=sides["test"],
        encoders=encoders,
        crop_size=plan_crop(config, pretrained=first, cases=sides["pool"]),
        threads=max(1, count_cores() // count_workers(config)),
    )


def tell_plan(plan: StudyPlan, *, progress: Progress) -> None:
    """Tell what will be trained."""
    section = plan.config.study
    progress.say(
        f"{len(plan.pool)} cases to learn from, {len(plan.tuning)} to choose learning rates on, "
        f"{len(plan.test)} to test on; arms {', '.join(section.arms)}; "
        f"{', '.join(map(str, plan.budgets))} labels."
    )


def _find_encoders(config: StudyConfig, default: Path | None) -> dict[str, Path | None]:
    """Return the encoder of each arm, whose architecture an arm from scratch has as well.

    Without a default, an arm from scratch has the architecture of the first encoder that another arm names:
    networks of different sizes would be no comparison.
    """
    encoders: dict[str, Path | None] = {}
    named = next((Path(arm.encoder) for arm in config.study.arms.values() if arm.encoder), None)
    for name, arm in config.study.arms.items():
        is_from_scratch = arm.mode != COVARIATES_ONLY and arm_transfer(config, arm).mode == "from_scratch"
        path = Path(arm.encoder) if arm.encoder else default or (named if is_from_scratch else None)
        if path is None and not (is_from_scratch or arm.mode == COVARIATES_ONLY):
            raise UsageError(f"Arm {name} needs an encoder: give one with --encoder or --arms {name}=RUN.")
        encoders[name] = path
    if AGAINST not in encoders:
        raise UsageError(f"A study needs an arm called {AGAINST}, which the others are compared with.")
    return encoders


def _tell_other_spacings(
    found: Mapping[Path, Pretrained], spacing_mm: Spacing, *, progress: Progress
) -> None:
    """Warn of encoders that know scans of another spacing: scans are prepared once, for the first encoder."""
    for path, pretrained in found.items():
        own = pretrained.provenance["spacing_mm"]
        if not np.allclose(own, spacing_mm, rtol=0.05):
            progress.warn(
                f"{path} was pretrained at {' x '.join(f'{mm:.3g}' for mm in own)} mm, but in this study all "
                f"arms get scans at {' x '.join(f'{mm:.3g}' for mm in spacing_mm)} mm."
            )


def count_workers(config: StudyConfig) -> int:
    """Return how many models are trained at once."""
    wanted = config.study.workers
    if wanted != "auto":
        return wanted
    if choose_device(config.speed.device).type == "cuda":
        return torch.cuda.device_count()
    return count_cores()


def _tune(plan: StudyPlan, *, progress: Progress) -> Scores:
    """Return the score of each learning rate on the tuning cases, by arm and label budget."""
    jobs = list(plan.tuning_jobs())
    if len(plan.config.study.learning_rates) == 1:
        (rate,) = plan.config.study.learning_rates
        return {(job.arm, job.label_budget): {rate: 0.0} for job in jobs}
    for _ in _run(jobs, plan, what="Tuning learning rates", progress=progress):
        pass
    found: dict[tuple[str, int], dict[float, list[float]]] = {}
    for job in jobs:
        by_rate = found.setdefault((job.arm, job.label_budget), {})
        by_rate.setdefault(job.learning_rate, []).append(primary_score(read_result(job).rows))
    return {key: {rate: fmean(each) for rate, each in rates.items()} for key, rates in found.items()}


def primary_score(rows: Sequence[Row]) -> float:
    """Return what a model is chosen by: mean Dice, or the mean AUROC over targets and classes."""
    if "dice" in rows[0]:
        return fmean(float(row["dice"]) for row in rows)
    scores = []
    for target in sorted({str(row["target"]) for row in rows}):
        own = [row for row in rows if row["target"] == target]
        classes = [name for name in own[0] if name.startswith("probability")]
        for column in classes:
            name = column.removeprefix("probability_")
            truth = [row["truth"] == (1 if column == "probability" else name) for row in own]
            if any(truth) and not all(truth):
                scores.append(float(roc_auc_score(truth, [float(row[column]) for row in own])))
    return fmean(scores)


def _run(
    jobs: Sequence[CellJob], plan: StudyPlan, *, what: str, progress: Progress
) -> Iterator[tuple[CellJob, CellResult]]:
    """Train what is not finished yet, several models at once, and yield each as it is done."""
    waiting = [job for job in jobs if not job.result.exists()]
    workers = count_workers(plan.config)
    with progress.track(what, total=len(jobs), done=len(jobs) - len(waiting)) as advance:
        for job, result in run_jobs(run_cell, waiting, processes=workers if workers > 1 else 0):
            name = f"{job.arm}, {job.label_budget} labels, seed {job.seed}"
            if isinstance(result, Died):
                raise MedsslError(
                    f"The process that trained {name} was ended by the system, most likely for want of "
                    "memory: lower study.workers, then run the same command with --resume."
                )
            advance(detail=f"{name}: {primary_score(result.rows):.3f}")
            yield job, result
