"""The labelled cases of one run or study: found, drawn, prepared, and what they are for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medssl.config.finetune_schema import FinetuneConfig
from medssl.config.schema import DataConfig
from medssl.errors import NoUsableScanError, UsageError
from medssl.finetune.budget import ClassOf, part_test_cases
from medssl.finetune.classification import Classification
from medssl.finetune.goal import Goal, Size3D
from medssl.finetune.segmentation import Segmentation
from medssl.finetune.targets import Target, keep_answered, parse_targets
from medssl.finetune.training import is_taught
from medssl.finetune.transfer import Pretrained
from medssl.networks.build import coarsest_stride
from medssl.progress import Progress
from medssl.scans.cases import PreparedCase, prepare_cases
from medssl.scans.datasets import find_labelled
from medssl.scans.geometry import along_ras
from medssl.scans.labelled import LabelledCase, LabelledDataset
from medssl.scans.plan import plan_crop_size, plan_spacing
from medssl.scans.read import read_header
from medssl.scans.record import SkippedScan
from medssl.scans.store import ScanStore
from medssl.scans.unlabelled import find_unlabelled

SPACING_RATIO = 1.5
"""Scans sampled this much coarser or finer than those of pretraining look different to the encoder."""

BACKGROUND = "background"

OF_THE_MACHINE = ("max_scan_gb", "verify_store", "prepare_workers")
"""Data settings that are those of the run, where all others are the encoder's."""


@dataclass(frozen=True)
class Labelled:
    """A labelled data set and how its cases are prepared.

    Attributes:
        dataset: As it was found.
        pool: Cases to learn from, with labels.
        test: Test cases, with labels.
        skipped: Cases that are left out so far.
        data: How scans are prepared: as for pretraining, or as planned from these.
        spacing_mm: Likewise.
        store: Where prepared cases lie.
        targets: What is told apart, for classification.
    """

    dataset: LabelledDataset
    pool: list[LabelledCase]
    test: list[LabelledCase]
    skipped: list[SkippedScan]
    data: DataConfig
    spacing_mm: tuple[float, float, float]
    store: ScanStore
    targets: tuple[Target, ...] = ()


def find_cases(
    source: Path, *, config: FinetuneConfig, pretrained: Pretrained | None, store: Path, progress: Progress
) -> Labelled:
    """Find the labelled cases of a data set, and say how they will be prepared.

    Raises:
        UsageError: If the data set cannot be read, or a subject is on both sides of the split.
    """
    is_segmentation = config.goal == Segmentation.name
    dataset = find_labelled(source, label_column=config.cases.label_column if is_segmentation else None)
    for note in dataset.notes:
        progress.say(note)
    targets: tuple[Target, ...] = ()
    skipped = list(dataset.skipped)
    if is_segmentation:
        usable = [case for case in dataset.cases if case.label]
    else:
        targets = parse_targets(config.cases.targets, dataset.cases)
        usable, unanswered = keep_answered(dataset.cases, targets)
        skipped += unanswered
    pool, test = part_test_cases(usable)
    if not pool:
        raise UsageError(f"All labelled cases of {source} are test cases; there is none to learn from.")
    data = DataConfig(**pretrained.provenance["data"]) if pretrained else config.data
    data = data.model_copy(update={name: getattr(config.data, name) for name in OF_THE_MACHINE})
    return Labelled(
        dataset=dataset,
        pool=pool,
        test=test,
        skipped=skipped,
        data=data,
        spacing_mm=_plan_spacing(pool, data),
        store=ScanStore(store),
        targets=targets,
    )


def prepare(
    labelled: Labelled, cases: Sequence[LabelledCase], *, progress: Progress
) -> tuple[list[PreparedCase], list[SkippedScan]]:
    """Bring cases into the store.

    Raises:
        NoUsableScanError: If not one of them can be used.
    """
    prepared, skipped = prepare_cases(
        cases,
        store=labelled.store,
        spacing_mm=labelled.spacing_mm,
        data=labelled.data,
        progress=progress,
    )
    if not prepared:
        example = skipped[0]
        raise NoUsableScanError(
            f"None of the {len(skipped)} labelled cases can be used; the first, {example.path.name}: "
            f"{example.reason}"
        )
    return prepared, skipped


def gather_unlabelled(
    labelled: Labelled, config: FinetuneConfig, *, test: Sequence[PreparedCase], progress: Progress
) -> list[PreparedCase]:
    """Return the scans that take part without labels, test cases left out; none if the config wants none."""
    if not is_taught(config):
        return []
    if config.unlabelled.source is None:
        raise UsageError(f"unlabelled.method is {config.unlabelled.method}: name the scans by --unlabelled.")
    found = find_unlabelled(Path(config.unlabelled.source), channel_names=labelled.dataset.channel_names)
    pool, _ = part_test_cases(found.cases)
    prepared, _ = prepare(labelled, pool, progress=progress)
    seen_in_test = {case.voxels_hash for case in test}
    kept = [case for case in prepared if case.voxels_hash not in seen_in_test]
    if len(kept) < len(prepared):
        progress.warn(f"{len(prepared) - len(kept)} of the unlabelled scans are test cases and are left out.")
    return kept


def usable_cases(
    cases: Sequence[LabelledCase],
    prepared: Sequence[PreparedCase],
    skipped: Sequence[SkippedScan],
    *,
    what: str,
) -> list[PreparedCase]:
    """Return those of some cases that are prepared, in the order of ``cases``.

    Args:
        cases: At least one.
        prepared: From `prepare`, of these and others.
        skipped: Likewise.
        what: What an error message calls them.

    Raises:
        NoUsableScanError: If not one of them is.
    """
    by_id = {case.record.scan_id: case for case in prepared}
    usable = [by_id[case.scan_id] for case in cases if case.scan_id in by_id]
    if not usable:
        reasons = {scan.path: scan.reason for scan in skipped}
        first = cases[0].path
        raise NoUsableScanError(
            f"None of the {len(cases)} {what} can be used; the first, {first.name}: {reasons[first]}"
        )
    return usable


def refuse_one_class(labelled: Labelled, cases: Sequence[PreparedCase], *, what: str) -> None:
    """Raise a UsageError unless each target can be told apart among some cases.

    Args:
        labelled: The data set.
        cases: To be judged.
        what: What an error message calls them.
    """
    for target in labelled.targets:
        answers = {target.class_of(case.record) for case in cases} - {None}
        if len(answers) < 2:
            raise UsageError(
                f"The {len(cases)} {what} do not show two classes of {target.name!r}, so no model can be "
                "judged by them: take more, or another split."
            )


def plan_crop(
    config: FinetuneConfig, *, pretrained: Pretrained | None, cases: Sequence[PreparedCase]
) -> Size3D:
    """Return the crop size: as set, else that of pretraining, else planned from the cases."""
    if config.crop_size != "auto":
        return config.crop_size
    if pretrained:
        x, y, z = pretrained.provenance["crop_size"]
        return x, y, z
    spacing_mm = cases[0].spacing_mm
    return plan_crop_size(
        [case.shape for case in cases],
        spacing_mm=spacing_mm,
        stride=coarsest_stride(config.encoder.name, config.encoder.size, spacing_mm=spacing_mm),
        max_voxels=config.max_crop_voxels,
    )


def class_of_case(labelled: Labelled) -> ClassOf | None:
    """Return what gives a case's class, of the first target; None for segmentation."""
    return labelled.targets[0].class_of if labelled.targets else None


def build_goal(config: FinetuneConfig, labelled: Labelled, *, train: Sequence[PreparedCase]) -> Goal:
    """Return what a run is for.

    Args:
        config: Of the run.
        labelled: The data set, which may name the classes of label maps; those without a name are numbered.
        train: Training cases.

    Raises:
        UsageError: If no training case has a labelled voxel, or a covariate does not exist.
    """
    if labelled.targets:
        return Classification.fit(
            labelled.targets, [case.record for case in train], covariates=config.cases.covariates
        )
    found = sorted({value for case in train for value in case.class_voxels})
    if not found:
        raise UsageError("No label map of the training cases holds a voxel other than 0; check the labels.")
    names = {
        0: BACKGROUND,
        **{value: f"class {value}" for value in found},
        **labelled.dataset.class_names,
    }
    return Segmentation(dict(sorted(names.items())), foreground_share=config.training.foreground_share)


def tell_disagreement(pretrained: Pretrained, cases: Sequence[PreparedCase], *, progress: Progress) -> None:
    """Warn where scans differ from those of pretraining so much that the encoder may not know them."""
    own = np.median([along_ras(case.source)[1] for case in cases], axis=0)
    theirs = np.asarray(pretrained.provenance["spacing_mm"])
    if np.max(np.maximum(own / theirs, theirs / own)) > SPACING_RATIO:
        progress.warn(
            f"These scans have {_by(own)} mm voxels and are resampled to the encoder's {_by(theirs)} mm; "
            "pretrain on scans like these if the detail matters."
        )
    known = set(pretrained.provenance["data_fingerprint"]["modalities"])
    unknown = {case.recipe.modality for case in cases} - known
    if unknown:
        progress.warn(
            f"These scans are {' and '.join(sorted(unknown))} and the encoder has seen "
            f"{' and '.join(sorted(known))} only."
        )


def _plan_spacing(cases: Sequence[LabelledCase], data: DataConfig) -> tuple[float, float, float]:
    if data.spacing_mm != "auto":
        return data.spacing_mm
    return plan_spacing([read_header(case.path) for case in cases], data)


def _by(values: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{value:.3g}" for value in values)
