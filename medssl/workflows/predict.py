"""New scans and a fine-tuned network in; label maps on the scans' own grids out, or a table of answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from medssl.config.schema import DataConfig
from medssl.errors import NoUsableScanError, ScanError, UsageError
from medssl.finetune.classification import Classification
from medssl.finetune.columns import read_number
from medssl.finetune.goal import Goal
from medssl.finetune.predictor import Predictor, load_predictor
from medssl.finetune.segmentation import Segmentation
from medssl.finetune.weights import Finetuned, find_models
from medssl.progress import Progress
from medssl.scans.cases import PreparedCase, prepare_cases
from medssl.scans.manifest import write_skipped
from medssl.scans.record import SkippedScan
from medssl.scans.store import ScanStore
from medssl.scans.unlabelled import find_unlabelled
from medssl.training.allocator import keep_freed_memory
from medssl.training.devices import choose_device
from medssl.training.settings import StepSettings
from medssl.workflows.cohort import none_usable, tell_skipped
from medssl.workflows.predictions import PredictionFolder, Values
from medssl.workflows.pretrain import default_store
from medssl.workflows.segment import SegmentationResults

SKIPPED = "skipped.csv"
VOLUMES = "volumes.csv"
ANSWERS = "predictions.csv"


@dataclass(frozen=True)
class PredictOutcome:
    """What became of the scans.

    Attributes:
        table: ``volumes.csv`` or ``predictions.csv``.
        predicted: How many were predicted now.
        kept: How many were there already.
        skipped: What is left out.
    """

    table: Path
    predicted: int
    kept: int
    skipped: list[SkippedScan]


def predict(
    run: Path,
    source: Path,
    *,
    out: Path,
    store: Path | None = None,
    device: str = "auto",
    probabilities: bool = False,
    flips: bool = False,
    overlays: int = 0,
    progress: Progress,
) -> PredictOutcome:
    """Predict scans that are prepared as those of training were; results that are there already are kept.

    Args:
        run: A run folder of fine-tuning, whose folds are averaged, or a weights file.
        source: See `medssl.scans.unlabelled.find_unlabelled`.
        out: Folder for the results: new, empty, or with results of the same model.
        store: Where prepared scans lie, by default ``medssl-store`` beside ``out``.
        device: "auto", "cpu", "cuda" or "cuda:N".
        probabilities: Whether to write those of each class of a segmentation too.
        flips: Whether to average over mirror images too.
        overlays: Of how many segmented scans to draw a picture.
        progress: Who is told.

    Raises:
        CheckpointError: If the weights cannot be read.
        UsageError: If ``run``, ``source`` or ``out`` do not fit.
        NoUsableScanError: If no scan can be used.
    """
    keep_freed_memory()
    models = find_models(run)
    settings = StepSettings(str(choose_device(device)))
    predictor, network = load_predictor(models, settings=settings, flips=flips)
    table = VOLUMES if isinstance(predictor.goal, Segmentation) else ANSWERS
    folder = PredictionFolder.open(out, table=table, models=models, flips=flips)
    store = store or default_store(out)
    cases, skipped = _gather(source, network=network, out=out, store=store, progress=progress)
    _tell_missing_covariates(predictor.goal, cases, progress=progress)
    results: Results = AnswersResults(predictor)
    if isinstance(predictor.goal, Segmentation):
        drawn = {case.record.scan_id for case in cases[:overlays]}
        results = SegmentationResults(predictor, folder, has_probabilities=probabilities, drawn=drawn)
    folder.refuse_clashes({case: results.files(case) for case in cases})
    waiting = [case for case in cases if not folder.has(case, files=results.files(case))]
    failed = _predict_each(waiting, results, folder, kept=len(cases) - len(waiting), progress=progress)
    skipped += failed
    write_skipped(out / SKIPPED, skipped)
    if skipped:
        progress.warn(tell_skipped(skipped, table=out / SKIPPED))
    return PredictOutcome(
        table=folder.table,
        predicted=len(waiting) - len(failed),
        kept=len(cases) - len(waiting),
        skipped=skipped,
    )


class Results(Protocol):
    """What is written of each scan, for one kind of model."""

    def files(self, case: PreparedCase) -> list[Path]:
        """Return where the results of a scan lie, apart from its row in the table."""

    def write(self, case: PreparedCase) -> Values:
        """Predict a scan, write these files, and return what its row of the table tells.

        Raises:
            ScanError: If the scan can no longer be read.
        """


@dataclass(frozen=True)
class AnswersResults:
    """A classification, which has no files but the table.

    Attributes:
        predictor: What classifies.
    """

    predictor: Predictor

    def files(self, case: PreparedCase) -> list[Path]:
        """Return no file."""
        return []

    def write(self, case: PreparedCase) -> Values:
        """Return for each target the most probable class, and the probability of each."""
        goal = self.predictor.goal
        assert isinstance(goal, Classification)
        values: dict[str, str | float] = {}
        parts = goal.split_targets(self.predictor(case))
        for target in goal.targets:
            shares = parts[target.name].tolist()
            values[target.name] = target.classes[shares.index(max(shares))]
            for name, share in zip(target.classes, shares, strict=True):
                values[f"p({target.name} is {name})"] = round(share, 6)
        return values


def _gather(
    source: Path, *, network: Finetuned, out: Path, store: Path, progress: Progress
) -> tuple[list[PreparedCase], list[SkippedScan]]:
    """Find scans and prepare them as those that the network was trained on."""
    about: Any = network.provenance
    found = find_unlabelled(source, channel_names=about["channel_names"])
    for note in found.notes:
        progress.say(note)
    inside = [case.path for case in found.cases if case.path.resolve().is_relative_to(out.resolve())]
    if inside or (source.is_dir() and out.resolve().is_relative_to(source.resolve())):
        raise UsageError(
            f"{out} lies among the scans of {source}, where results would be taken for scans: name a folder "
            "elsewhere."
        )
    cases, unreadable = prepare_cases(
        found.cases,
        store=ScanStore(store),
        spacing_mm=tuple(about["spacing_mm"]),
        data=DataConfig(**about["data"]),
        progress=progress,
        keep_copies=True,
    )
    skipped = [*found.skipped, *unreadable]
    if not cases:
        raise NoUsableScanError(none_usable(source, skipped))
    return cases, skipped


def _tell_missing_covariates(goal: Goal, cases: Sequence[PreparedCase], *, progress: Progress) -> None:
    """Warn where a classifier is not given what it was trained with beside the scan."""
    for covariate in goal.covariates if isinstance(goal, Classification) else ():
        missing = sum(read_number(case.record, covariate.column) is None for case in cases)
        if missing:
            progress.warn(
                f"{missing} of {len(cases)} scans have no {covariate.column}, for which the model takes "
                f"{covariate.mean:.3g}, the mean of its training cases: give a CSV with that column."
            )


def _predict_each(
    cases: Sequence[PreparedCase],
    results: Results,
    folder: PredictionFolder,
    *,
    kept: int,
    progress: Progress,
) -> list[SkippedScan]:
    """Predict cases one by one, each recorded as soon as its results are there; return those that failed."""
    if kept:
        progress.say(f"Scans that this model predicted before, kept as they are: {kept}.")
    folder.save()
    failed = []
    with progress.track("Predicting", total=kept + len(cases), done=kept) as advance:
        for case in cases:
            try:
                folder.add(case, results.write(case))
            except ScanError as error:
                failed.append(SkippedScan(case.record.path, str(error)))
            advance(detail=case.record.scan_id)
    return failed
