"""How the steps of all cells of a study are computed: timed once, then the same for every one."""

from contextlib import closing
from dataclasses import replace

import torch

from medssl.config.schema import SpeedConfig
from medssl.finetune.training import build_model, open_stream
from medssl.finetune.transfer import Pretrained
from medssl.progress import SilentProgress
from medssl.training.devices import choose_device
from medssl.training.precision import choose_step_settings
from medssl.training.run_folder import RunFolder
from medssl.training.settings import StepSettings, recorded_settings
from medssl.workflows.study_plan import StudyPlan


def settle_speed(plan: StudyPlan, run: RunFolder) -> StudyPlan:
    """Return the plan with the fastest settings that its config leaves open filled in.

    A study that goes on keeps those it began with, so that all its models are computed alike.
    """
    config = plan.config
    device = choose_device(config.speed.device)
    settings = recorded_settings(run.read_status().get("step_settings"), speed=config.speed, device=device)
    if settings is None:
        settings = _fastest(plan, device)
        run.update_status(step_settings=settings.as_dict())
    speed = SpeedConfig(
        device=config.speed.device,
        precision=settings.precision,
        channels_last=settings.channels_last,
        compile=settings.compile,
        loader_threads=1 if config.speed.loader_threads == "auto" else config.speed.loader_threads,
    )
    return replace(plan, config=config.model_copy(update={"speed": speed}))


def _fastest(plan: StudyPlan, device: torch.device) -> StepSettings:
    torch.set_num_threads(plan.threads)
    job = next(plan.tuning_jobs())
    start = build_model(
        job.goal,
        pretrained=Pretrained.find(job.encoder) if job.encoder else None,
        config=job.config,
        in_channels=len(job.train[0].channels),
        crop_size=job.crop_size,
        spacing_mm=job.train[0].spacing_mm,
    )
    stream = open_stream(
        job.train, goal=job.goal, config=job.config, crop_size=job.crop_size, progress=SilentProgress()
    )
    with closing(stream.batches(0)) as batches:
        batch = next(batches)
    settings, _ = choose_step_settings(
        start.model,
        batch,
        objective=job.goal,
        speed=plan.config.speed,
        optimiser=job.config.optimiser,
        device=device,
        total_steps=job.config.training.epochs * job.config.training.steps_per_epoch,
    )
    return settings
