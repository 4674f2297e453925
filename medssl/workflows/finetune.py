"""Labelled scans and a pretrained encoder in, a working model with its test scores out."""

import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from medssl.config.finetune_schema import FinetuneConfig
from medssl.finetune.budget import draw_subset, hold_out
from medssl.finetune.goal import Goal, Size3D
from medssl.finetune.training import build_model, open_stream, settle_step, train
from medssl.finetune.transfer import Pretrained
from medssl.finetune.weights import MODEL, save_model
from medssl.progress import Progress, SilentProgress
from medssl.scans.cases import PreparedCase
from medssl.scans.manifest import write_skipped
from medssl.training.allocator import keep_freed_memory
from medssl.training.run_folder import LoggedProgress, RunFolder
from medssl.workflows.cohort import tell_skipped
from medssl.workflows.describe_model import describe_model
from medssl.workflows.finetune_results import score_and_report
from medssl.workflows.labelled import (
    Labelled,
    build_goal,
    class_of_case,
    find_cases,
    gather_unlabelled,
    plan_crop,
    prepare,
    tell_disagreement,
    usable_cases,
)
from medssl.workflows.run_start import record_split, record_start
from medssl.workflows.score import Row


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
    """Fine-tune an encoder on labelled cases, or go on with a run, score the test cases and write a report.

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
    keep_freed_memory()
    with RunFolder.open(out, resume=resume) as run:
        told = LoggedProgress(progress or SilentProgress(), run)
        places = record_start(run, source, encoder=encoder, store=store, config=config, command=command)
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
        usable = usable_cases(chosen, prepared, skipped, what="labelled cases to learn from")
        folds = _make_folds(usable, config=config)
        test_ids = {case.scan_id for case in labelled.test}
        test = [case for case in prepared if case.record.scan_id in test_ids]
        record_split(run, _sides(folds, test))
        crop_size = plan_crop(config, pretrained=pretrained, cases=folds[0].train)
        if pretrained:
            tell_disagreement(pretrained, prepared, progress=told)
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
        scores = score_and_report(
            run, models, test, device=config.speed.device, warnings=told.warnings, progress=told
        )
    return FinetuneOutcome(models=models, scores=scores, skipped=len(skipped))


def _make_folds(usable: Sequence[PreparedCase], *, config: FinetuneConfig) -> list[Fold]:
    by_id = {case.record.scan_id: case for case in usable}
    folds = []
    for number in range(config.cases.folds):
        train_cases, val_cases = hold_out(
            [case.record for case in usable],
            val_fraction=config.cases.val_fraction,
            folds=config.cases.folds,
            fold=number,
            seed=config.training.seed,
        )
        folds.append(
            Fold([by_id[case.scan_id] for case in train_cases], [by_id[case.scan_id] for case in val_cases])
        )
    return folds


def _sides(folds: Sequence[Fold], test: Sequence[PreparedCase]) -> dict[str, Sequence[PreparedCase]]:
    """Return the cases of each side by its name in split.csv."""
    sides: dict[str, Sequence[PreparedCase]] = {"test": test}
    for number, fold in enumerate(folds, start=1):
        sides |= {f"fold {number} train": fold.train, f"fold {number} val": fold.val}
    return sides


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
            config,
            labelled=labelled,
            pretrained=pretrained,
            start=start,
            train=fold.train,
            unlabelled=unlabelled,
            crop_size=crop_size,
            goal=goal,
        ),
    )
    return path
