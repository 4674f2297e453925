"""Labelled scans and a pretrained encoder in, a working model with its test scores out."""

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl import __version__
from medssl.atomic import write_text
from medssl.config.load import dump_yaml
from medssl.config.schema import FinetuneConfig
from medssl.errors import UsageError
from medssl.finetune.budget import draw_subset, hold_out
from medssl.finetune.goal import Goal, Size3D
from medssl.finetune.predictor import load_predictor
from medssl.finetune.training import build_model, open_stream, settle_step, train
from medssl.finetune.transfer import Pretrained
from medssl.finetune.weights import MODEL, save_model
from medssl.progress import Progress, SilentProgress
from medssl.scans.cases import PreparedCase
from medssl.scans.fingerprint import data_fingerprint
from medssl.scans.labelled import LabelledCase
from medssl.scans.manifest import read_table, write_skipped, write_table
from medssl.training.devices import choose_device
from medssl.training.environment import describe_environment
from medssl.training.run_folder import LoggedProgress, RunFolder
from medssl.training.settings import StepSettings
from medssl.workflows.cohort import tell_skipped
from medssl.workflows.labelled import (
    Labelled,
    build_goal,
    class_of_case,
    find_cases,
    gather_unlabelled,
    plan_crop,
    prepare,
    tell_disagreement,
)
from medssl.workflows.pretrain import default_store
from medssl.workflows.score import Row, score_cases

TEST_SCORES = "test_scores.csv"


@dataclass(frozen=True)
class Fold:
    """What one model learns from.

    Attributes:
        train: Cases to train on.
        val: Cases of other subjects, perhaps none.
    """

    train: list[PreparedCase]
    val: list[PreparedCase]


@dataclass(frozen=True)
class FinetuneOutcome:
    """What a run came to.

    Attributes:
        models: Weights files, one a fold.
        scores: One row a test case; none without test cases.
        skipped: Cases that were left out.
    """

    models: list[Path]
    scores: list[Row]
    skipped: int


def finetune(
    source: Path | None,
    *,
    config: FinetuneConfig,
    out: Path,
    encoder: Path | None = None,
    store: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> FinetuneOutcome:
    """Fine-tune an encoder on labelled cases, or go on with a run, and score the test cases.

    Args:
        source: A data set, see `medssl.scans.datasets.find_labelled`; None on resume.
        config: The run's settings.
        out: The run folder, made here unless ``resume``.
        encoder: A run folder of pretraining or its weights; None trains the config's encoder from scratch.
        store: Where prepared scans lie, by default ``medssl-store`` beside the run folder.
        resume: Whether to go on with the run in ``out``.
        progress: Who is told; nobody by default.
        command: What the user typed, for the record.

    Raises:
        MedsslError: As its subclasses tell; the run folder records how it ended.
    """
    with RunFolder.open(out, resume=resume) as run:
        told = LoggedProgress(progress or SilentProgress(), run)
        places = _record_start(run, source, encoder=encoder, store=store, config=config, command=command)
        pretrained = Pretrained.find(places.encoder) if places.encoder else None
        labelled = find_cases(
            places.source, config=config, pretrained=pretrained, store=places.store, progress=told
        )
        chosen = draw_subset(
            labelled.pool,
            config.cases.labels,
            seed=config.training.seed,
            class_of=class_of_case(labelled),
        )
        prepared, skipped = prepare(labelled, [*chosen, *labelled.test], progress=told)
        write_skipped(run.skipped, [*labelled.skipped, *skipped])
        if skipped:
            told.warn(tell_skipped(skipped, table=run.skipped))
        by_id = {case.record.scan_id: case for case in prepared}
        folds = _make_folds(chosen, by_id, config=config)
        test = [by_id[case.scan_id] for case in labelled.test if case.scan_id in by_id]
        _record_split(run, folds, test)
        crop_size = plan_crop(config, pretrained=pretrained, cases=folds[0].train)
        if pretrained:
            tell_disagreement(pretrained, prepared, progress=told)
        usable = [by_id[case.scan_id] for case in chosen if case.scan_id in by_id]
        goal = build_goal(config, labelled, train=usable)
        unlabelled = gather_unlabelled(labelled, config, test=test, progress=told)
        models = []
        for number, fold in enumerate(folds, start=1):
            with _fold_run(run, number, n_folds=len(folds)) as own:
                models.append(
                    _finetune_fold(
                        own,
                        fold,
                        goal=goal,
                        unlabelled=unlabelled,
                        labelled=labelled,
                        pretrained=pretrained,
                        crop_size=crop_size,
                        config=config,
                        continue_command=shlex.join(["medssl", "finetune", "--resume", str(out)]),
                        progress=LoggedProgress(told, own) if own is not run else told,
                    )
                )
        scores = _score_test(run, models, test, config=config, progress=told)
    return FinetuneOutcome(models=models, scores=scores, skipped=len(skipped))


@dataclass(frozen=True)
class _Places:
    source: Path
    encoder: Path | None
    store: Path


def _record_start(
    run: RunFolder,
    source: Path | None,
    *,
    encoder: Path | None,
    store: Path | None,
    config: FinetuneConfig,
    command: Sequence[str],
) -> _Places:
    """Write down how the run was started, or look it up, and return where its data lie."""
    if source is not None:
        run.update_status(
            source=str(source.absolute()),
            encoder=str(encoder.absolute()) if encoder else None,
            store=str((store or default_store(run.path)).absolute()),
        )
    status = run.read_status()
    write_text(run.config, dump_yaml(config))
    commands = run.command.read_text(encoding="utf-8") if run.command.exists() else ""
    write_text(run.command, f"{commands}{shlex.join(command)}\n")
    write_text(run.environment, json.dumps(describe_environment(), indent=2) + "\n")
    place = Path(status["encoder"]) if status["encoder"] else None
    return _Places(Path(status["source"]), place, Path(status["store"]))


def _make_folds(
    chosen: Sequence[LabelledCase], by_id: Mapping[str, PreparedCase], *, config: FinetuneConfig
) -> list[Fold]:
    usable = [case for case in chosen if case.scan_id in by_id]
    if not usable:
        raise UsageError("None of the labelled cases to learn from can be used; skipped.csv says why.")
    folds = []
    for number in range(config.cases.folds):
        train_cases, val_cases = hold_out(
            usable,
            val_fraction=config.cases.val_fraction,
            folds=config.cases.folds,
            fold=number,
            seed=config.training.seed,
        )
        folds.append(
            Fold([by_id[case.scan_id] for case in train_cases], [by_id[case.scan_id] for case in val_cases])
        )
    return folds


def _record_split(run: RunFolder, folds: Sequence[Fold], test: Sequence[PreparedCase]) -> None:
    """Write which case is on which side; a run that goes on must find the same cases again.

    Raises:
        UsageError: If it does not.
    """
    sides = [("test", test)]
    for number, fold in enumerate(folds, start=1):
        sides += [(f"fold {number} train", fold.train), (f"fold {number} val", fold.val)]
    rows = [
        {"scan_id": case.record.scan_id, "subject_id": case.record.subject_id, "split": side}
        for side, cases in sides
        for case in cases
    ]
    if run.split.exists() and read_table(run.split) != rows:
        raise UsageError(
            f"The labelled cases are no longer those that {run.path} was started with: put them back, or "
            "start a new run."
        )
    write_table(run.split, ("scan_id", "subject_id", "split"), rows)


def _fold_run(run: RunFolder, number: int, *, n_folds: int) -> AbstractContextManager[RunFolder]:
    """Return where a model is trained: in the run folder itself, or in one below it for each fold."""
    if n_folds == 1:
        return nullcontext(run)
    path = run.path / f"fold_{number}"
    return RunFolder.open(path, resume=(path / run.status.name).exists())


def _finetune_fold(
    run: RunFolder,
    fold: Fold,
    *,
    goal: Goal,
    unlabelled: Sequence[PreparedCase],
    labelled: Labelled,
    pretrained: Pretrained | None,
    crop_size: Size3D,
    config: FinetuneConfig,
    continue_command: str,
    progress: Progress,
) -> Path:
    """Train one model and return its weights file; one that is finished is not trained again."""
    path = run.path / MODEL
    if path.exists():
        progress.say(f"{path} is finished.")
        return path
    start = build_model(
        goal,
        pretrained=pretrained,
        config=config,
        in_channels=len(fold.train[0].channels),
        crop_size=crop_size,
        spacing_mm=labelled.spacing_mm,
    )
    for part, report in start.loads.items():
        progress.say(f"{part.capitalize()}: {report.summary()}")
    stream = open_stream(fold.train, goal=goal, config=config, crop_size=crop_size, progress=progress)
    settings = settle_step(run, start.model, stream, goal=goal, config=config)
    progress.say(
        f"{len(fold.train)} cases to train on and {len(fold.val)} to choose the best epoch by; crops of "
        f"{' x '.join(map(str, crop_size))} voxels; {settings.describe()}."
    )
    train(
        start.model,
        stream,
        goal=goal,
        val=fold.val,
        unlabelled=unlabelled,
        crop_size=crop_size,
        config=config,
        settings=settings,
        run=run,
        progress=progress,
        resume=run.last_checkpoint.exists(),
        continue_command=continue_command,
    )
    save_model(
        path,
        start.model,
        goal=goal,
        provenance=describe_model(
            config, labelled=labelled, pretrained=pretrained, fold=fold, crop_size=crop_size, goal=goal
        ),
    )
    return path


def describe_model(
    config: FinetuneConfig,
    *,
    labelled: Labelled,
    pretrained: Pretrained | None,
    fold: Fold,
    crop_size: Size3D,
    goal: Goal,
) -> dict[str, Any]:
    """Return what a user of the weights must know, JSON-ready and naming nobody."""
    keep = ("tasks", "seed", "steps", "data_fingerprint", "medssl_version")
    return {
        "medssl_version": __version__,
        "goal": goal.describe(),
        "is_linear": config.transfer.mode == "linear_probe",
        "channel_names": list(labelled.dataset.channel_names),
        "orientation": "RAS",
        "spacing_mm": list(labelled.spacing_mm),
        "crop_size": list(crop_size),
        "data": labelled.data.model_dump(mode="json", exclude={"prepare_workers"}),
        "transfer": config.transfer.model_dump(mode="json"),
        "pretraining": {key: pretrained.provenance[key] for key in keep} if pretrained else None,
        "seed": config.training.seed,
        "steps": config.training.epochs * config.training.steps_per_epoch,
        "batch_size": config.training.batch_size,
        "versions": describe_environment()["packages"],
        "data_fingerprint": data_fingerprint(fold.train),
    }


def _score_test(
    run: RunFolder,
    models: Sequence[Path],
    test: Sequence[PreparedCase],
    *,
    config: FinetuneConfig,
    progress: Progress,
) -> list[Row]:
    if not test:
        progress.say("The data set sets no test cases aside, so nothing is scored.")
        return []
    settings = StepSettings(str(choose_device(config.speed.device)))
    predictor, _ = load_predictor(models, settings=settings, flips=False)
    rows = score_cases(predictor, test, progress=progress)
    write_table(run.path / TEST_SCORES, list(rows[0]), rows)
    return rows
