"""How the steps of all cells of a study are computed: timed once, then the same for every one."""

from dataclasses import replace

import torch

from medssl.config.schema import SpeedConfig
from medssl.finetune.training import fastest_settings, first_batch
from medssl.training.devices import choose_device
from medssl.training.run_folder import RunFolder
from medssl.training.settings import StepSettings, recorded_settings
from medssl.workflows.cell import start_cell
from medssl.workflows.study_plan import StudyPlan


def settle_speed(plan: StudyPlan, run: RunFolder) -> StudyPlan:
    """Return the plan with the fastest settings that its config leaves open filled in.

    A study that goes on keeps those it began with, so that all its models are computed alike.
    """
    config = plan.config
    device = choose_device(config.speed.device)
    settings = recorded_settings(run.read_status().get("step_settings"), speed=config.speed, device=device)
    if settings is None:
        settings = _fastest(plan)
        run.update_status(step_settings=settings.as_dict())
    speed = SpeedConfig(
        device=config.speed.device,
        precision=settings.precision,
        channels_last=settings.channels_last,
        compile=settings.compile,
        loader_threads=1 if config.speed.loader_threads == "auto" else config.speed.loader_threads,
    )
    return replace(plan, config=config.model_copy(update={"speed": speed}))


def _fastest(plan: StudyPlan) -> StepSettings:
    torch.set_num_threads(plan.threads)
    job = next(plan.tuning_jobs())
    start, stream = start_cell(job)
    return fastest_settings(start.model, first_batch(stream), goal=job.goal, config=job.config)
