"""Unlabelled scans in, a pretrained encoder with its report out."""

import json
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medssl.atomic import write_text
from medssl.config.load import dump_yaml, load_config
from medssl.config.schema import PretrainConfig
from medssl.evaluate.health import embedding_health
from medssl.networks.foreign import load_foreign
from medssl.pretext.task import CueReport
from medssl.progress import Progress, SilentProgress
from medssl.scans.store import ScanStore
from medssl.scans.verify_store import verified_meanwhile
from medssl.training.allocator import keep_freed_memory
from medssl.training.checkpoint import check_same_run, load_model
from medssl.training.devices import choose_device
from medssl.training.distributed import from_first, is_first, launched_processes, process_group
from medssl.training.environment import describe_environment
from medssl.training.loop import TrainingResult
from medssl.training.precision import choose_step_settings
from medssl.training.pretraining import train
from medssl.training.run_folder import LoggedProgress, RunFolder
from medssl.training.settings import StepSettings, recorded_settings
from medssl.training.stream import CropStream
from medssl.workflows.cohort import (
    Cohort,
    find_candidates,
    prepare_cohort,
    read_cohort,
    tell_skipped,
    write_cohort,
)
from medssl.workflows.results import write_results
from medssl.workflows.setup import PICTURE_SCANS, Network, build_network, draw_samples, open_stream

PROBE_CROPS_TRAIN = 512
PROBE_CROPS_VAL = 256
"""Crops a trivial-cue probe is fitted to and scored on: enough to tell 17 % from 4 %, made in seconds."""


@dataclass(frozen=True)
class PretrainOutcome:
    """What a run came to.

    Attributes:
        training: How training ended.
        scans: Scans that were used.
        skipped: Files that were left out.
    """

    training: TrainingResult
    scans: int
    skipped: int


def pretrain(
    source: Path | None,
    *,
    config: PretrainConfig,
    out: Path,
    store: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> PretrainOutcome:
    """Pretrain an encoder on the scans below a folder, or go on with a run.

    Args:
        source: A folder, file or CSV; None on resume, when the run folder knows.
        config: The run's settings; on resume those of its ``config.yaml``, where only a few may differ.
        out: The run folder, made here unless ``resume``.
        store: Where prepared scans lie, by default ``medssl-store`` beside the run folder, so that runs that
            lie together share it.
        resume: Whether to go on with the run in ``out``.
        progress: Who is told; nobody by default.
        command: What the user typed, for the record.

    Raises:
        MedsslError: As its subclasses tell; the run folder records how it ended.
    """
    keep_freed_memory()
    device = choose_device(config.speed.device)
    with process_group(device), RunFolder.open(out, resume=resume, is_owner=is_first()) as run:
        told = LoggedProgress(progress if progress and is_first() else SilentProgress(), run)
        _record_start(run, source=source, store=store, config=config, command=command, resume=resume)
        cohort = from_first(lambda: _gather_cohort(run, config=config, progress=told))
        network = build_network(
            config,
            shapes=[scan.shape for scan in cohort.scans],
            spacing_mm=cohort.scans[0].spacing_mm,
        )
        if config.init.weights and not run.last_checkpoint.exists():
            report = load_foreign(
                network.model.encoder, Path(config.init.weights), allow_partial=config.init.allow_partial
            )
            told.say(f"Beginning with {config.init.weights}: {report.summary()}")
        if is_first():
            write_text(run.config, dump_yaml(network.config))
        stream = open_stream(cohort.train, network=network, progress=told)
        _tell_plan(network, cohort, stream, progress=told)
        cues = from_first(lambda: _probe_cues(run, network, cohort, stream, progress=told))
        settings = from_first(lambda: _settle_step(run, network, stream, progress=told))
        with _verified_meanwhile(run, cohort, config=network.config, progress=told):
            training = train(
                network.model,
                mixture=network.mixture,
                train_stream=stream,
                val_batches=stream.fixed_batches(
                    cohort.val, crops_per_scan=network.config.training.val_crops_per_scan
                )
                if cohort.val
                else None,
                picture_samples=list(
                    draw_samples(stream, (cohort.val or cohort.train)[:PICTURE_SCANS], count=PICTURE_SCANS)
                ),
                config=network.config,
                run=run,
                cues=cues,
                embedding_health=embedding_health,
                settings=replace(settings, device=str(device)),
                progress=told,
                resume=resume,
                continue_command=_continue_command(out),
            )
        if is_first():
            kept = run.best_checkpoint if run.best_checkpoint.exists() else run.last_checkpoint
            counters = load_model(kept, network.model)
            write_results(
                run, network=network, cohort=cohort, cues=cues, counters=counters, warnings=told.warnings
            )
    return PretrainOutcome(training=training, scans=len(cohort.scans), skipped=len(cohort.skipped))


def default_store(out: Path) -> Path:
    """Return where prepared scans lie unless the user says otherwise: beside ``out``."""
    return out.absolute().parent / "medssl-store"


def _record_start(
    run: RunFolder,
    *,
    source: Path | None,
    store: Path | None,
    config: PretrainConfig,
    command: Sequence[str],
    resume: bool,
) -> None:
    if not run.is_owner:
        return
    if not resume:
        assert source is not None, "a new run needs scans"
        run.update_status(
            source=str(source.absolute()), store=str((store or default_store(run.path)).absolute())
        )
    if resume and run.config.exists():
        check_same_run(load_config(run.config), config)  # before its own settings are overwritten
    write_text(run.config, dump_yaml(config))
    commands = run.command.read_text(encoding="utf-8") if run.command.exists() else ""
    write_text(run.command, f"{commands}{shlex.join(command)}\n")
    write_text(run.environment, json.dumps(describe_environment(), indent=2) + "\n")


def _gather_cohort(run: RunFolder, *, config: PretrainConfig, progress: Progress) -> Cohort:
    """Return the scans a run began with or, where it did not get so far, find and prepare them now."""
    if (cohort := read_cohort(run)) is not None:
        progress.say(f"Going on with the {len(cohort.scans)} prepared scans of this run.")
        return cohort
    status = run.read_status()
    source, store = Path(status["source"]), Path(status["store"])
    candidates = find_candidates(source, data=config.data, store=store, progress=progress)
    cohort = prepare_cohort(
        candidates,
        source=source,
        store=ScanStore(store),
        data=config.data.model_copy(update={"verify_store": False}),  # which is done while training goes on
        seed=config.training.seed,
        progress=progress,
    )
    write_cohort(run, cohort)
    if cohort.skipped:
        progress.warn(tell_skipped(cohort.skipped, table=run.skipped))
    return cohort


def _verified_meanwhile(
    run: RunFolder, cohort: Cohort, *, config: PretrainConfig, progress: Progress
) -> AbstractContextManager[None]:
    if not (config.data.verify_store and is_first()):
        return nullcontext()
    store = ScanStore(Path(run.read_status()["store"]))
    return verified_meanwhile(cohort.scans, store=store, data=config.data, tell=progress.warn)


def _tell_plan(network: Network, cohort: Cohort, stream: CropStream, *, progress: Progress) -> None:
    spacing = " x ".join(f"{mm:g}" for mm in cohort.scans[0].spacing_mm)
    crop = " x ".join(map(str, network.mixture.crop_size))
    progress.say(
        f"{len(cohort.train)} scans to train on and {len(cohort.val)} of other subjects to validate, "
        f"at {spacing} mm; crops of {crop} voxels, {stream.steps_per_epoch} steps an epoch."
    )
    for task in network.mixture.tasks:
        facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in task.facts().items())
        progress.say(f"Task {task.name}: {facts}." if facts else f"Task {task.name}.")
    if not cohort.val:
        progress.warn(
            "No scan is held out, so nothing will tell whether what is learned holds for other scans."
        )


def _probe_cues(
    run: RunFolder, network: Network, cohort: Cohort, stream: CropStream, *, progress: Progress
) -> dict[str, CueReport]:
    """Return how far trivial cues get on each task; a run measures it once and keeps it."""
    if recorded := run.read_status().get("trivial_cues"):
        return {name: CueReport(**fields) for name, fields in recorded.items()}
    if not cohort.val:
        return {}
    cues = {}
    with progress.track("Probing trivial cues", total=len(network.mixture.tasks)) as advance:
        for task in network.mixture.tasks:
            cues[task.name] = task.trivial_cues(
                draw_samples(stream, cohort.train, count=PROBE_CROPS_TRAIN),
                draw_samples(stream, cohort.val, count=PROBE_CROPS_VAL),
            )
            advance()
    for name, cue in cues.items():
        progress.say(
            f"Trivial cues reach {name} {cue.metric} {cue.trivial:.3f} (chance {cue.chance:.3f}): {cue.cues}."
        )
    run.update_status(trivial_cues={name: asdict(cue) for name, cue in cues.items()})
    return cues


def _settle_step(run: RunFolder, network: Network, stream: CropStream, *, progress: Progress) -> StepSettings:
    """Return how steps are computed: as the run did so far, or the fastest that the config leaves open."""
    speed = network.config.speed
    device = choose_device(speed.device)
    record = run.read_status().get("step_settings")
    if recorded := recorded_settings(record, speed=speed, device=device):
        return recorded
    with closing(stream.batches(0)) as batches:
        batch = next(batches)
    settings, trials = choose_step_settings(
        network.model,
        batch,
        objective=network.mixture,
        speed=speed,
        optimiser=network.config.optimiser,
        device=device,
        total_steps=stream.steps_per_epoch * network.config.training.epochs,
    )
    run.update_status(step_settings=settings.as_dict(), timed_step_settings=trials)
    progress.say(f"Training on {settings.describe()}{_timing(trials)}.")
    return settings


def _timing(trials: Sequence[dict[str, Any]]) -> str:
    seconds = [trial["step_s"] for trial in trials if trial["step_s"]]
    return (
        f", the fastest of {len(trials)} settings at {min(seconds):.2g} s a step" if len(trials) > 1 else ""
    )


def _continue_command(out: Path) -> str:
    command = shlex.join(["medssl", "pretrain", "--resume", str(out)])
    processes = launched_processes()
    return command if processes == 1 else f"torchrun --nproc-per-node {processes} -m {command}"
