"""The labelled cases of one run or study: found, drawn, prepared, and what they are for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medssl.config.schema import DataConfig, FinetuneConfig
from medssl.errors import NoUsableScanError, UsageError
from medssl.finetune.budget import part_test_cases
from medssl.finetune.goal import Goal, Size3D
from medssl.finetune.segmentation import Segmentation
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

SPACING_RATIO = 1.5
"""Scans sampled this much coarser or finer than those of pretraining look different to the encoder."""

BACKGROUND = "background"


@dataclass(frozen=True)
class Labelled:
    """A labelled data set and how its cases are prepared.

    Attributes:
        dataset: As it was found.
        pool: Cases to learn from, with labels.
        test: Test cases, with labels.
        data: How scans are prepared: as for pretraining, or as planned from these.
        spacing_mm: Likewise.
        store: Where prepared cases lie.
    """

    dataset: LabelledDataset
    pool: list[LabelledCase]
    test: list[LabelledCase]
    data: DataConfig
    spacing_mm: tuple[float, float, float]
    store: ScanStore


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
    labelled = [case for case in dataset.cases if case.label or not is_segmentation]
    pool, test = part_test_cases(labelled)
    if not pool:
        raise UsageError(f"All labelled cases of {source} are test cases; there is none to learn from.")
    data = DataConfig(**pretrained.provenance["data"]) if pretrained else config.data
    data = data.model_copy(update={"prepare_workers": config.data.prepare_workers})
    return Labelled(
        dataset=dataset,
        pool=pool,
        test=test,
        data=data,
        spacing_mm=_plan_spacing(pool, data),
        store=ScanStore(store),
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


def build_goal(config: FinetuneConfig, dataset: LabelledDataset, *, train: Sequence[PreparedCase]) -> Goal:
    """Return what a run is for.

    Args:
        config: Of the run.
        dataset: Which may name the classes; those it does not name are numbered.
        train: Training cases.

    Raises:
        UsageError: If no training case has a labelled voxel.
    """
    found = sorted({value for case in train for value in case.class_voxels})
    if not found:
        raise UsageError("No label map of the training cases holds a voxel other than 0; check the labels.")
    names = dict(dataset.class_names) or {0: BACKGROUND, **{value: f"class {value}" for value in found}}
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
