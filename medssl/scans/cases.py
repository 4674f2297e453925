"""Labelled cases in the store: every channel and the label map on one grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medssl.config.schema import DataConfig
from medssl.errors import ScanError
from medssl.progress import Progress
from medssl.scans.check_headers import check_scans
from medssl.scans.geometry import refuse_other_grid
from medssl.scans.labelled import LabelledCase
from medssl.scans.once import Failed
from medssl.scans.prepare import Recipe, ScanTask, Spacing, prepare_each, prepare_scans
from medssl.scans.prepare_label import LabelTask, PreparedLabel, prepare_labels
from medssl.scans.record import (
    CheckedScan,
    Found,
    IntensityRecipe,
    PreparedScan,
    ScanHeader,
    ScanRecord,
    SkippedScan,
)
from medssl.scans.store import ScanStore

Faults = dict[str, str]
"""Why cases are left out, by their scan_id."""


@dataclass(frozen=True, slots=True)
class PreparedCase:
    """A labelled case that lies in the store.

    Attributes:
        record: Where it came from.
        channels: Its images, of one shape, in the order of the data set's channel names.
        label_path: Its label map in the store, uint8 on the same grid, or None.
        class_voxels: Number of voxels of each class that occurs in it, without the background.
    """

    record: LabelledCase
    channels: tuple[PreparedScan, ...]
    label_path: Path | None = None
    class_voxels: Mapping[int, int] = field(default_factory=dict, hash=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Stored voxels along +R, +A, +S."""
        return self.channels[0].shape

    @property
    def spacing_mm(self) -> Spacing:
        """Stored spacing along the same axes."""
        return self.channels[0].spacing_mm

    @property
    def content_hash(self) -> str:
        """Hash of the first channel's file."""
        return self.channels[0].content_hash

    @property
    def voxels_hash(self) -> str:
        """Hash of the first channel's stored voxels."""
        return self.channels[0].voxels_hash

    @property
    def recipe(self) -> IntensityRecipe:
        """Intensity recipe of the first channel."""
        return self.channels[0].recipe

    @property
    def source(self) -> ScanHeader:
        """Header of the first channel's file."""
        return self.channels[0].source


def prepare_cases(
    cases: Sequence[LabelledCase],
    *,
    store: ScanStore,
    spacing_mm: Spacing,
    data: DataConfig,
    progress: Progress,
    keep_copies: bool = False,
) -> tuple[list[PreparedCase], list[SkippedScan]]:
    """Bring every case into a store, unless it lies there already.

    The first channel is prepared as for pretraining, see `prepare_scans`; further channels and the label map
    are cut and resampled with it. A case of which any part cannot be used is skipped with the reason; so is a
    second one with the same first channel. Both lists keep the order of ``cases``. A case is one volume: of a
    4-D image it is the first or the mean where ``data.time_points`` says so and there are no label maps.

    Args:
        cases: From `medssl.scans.datasets.find_labelled`.
        store: Where prepared scans lie; other runs may use it at the same time.
        spacing_mm: The spacing to resample to, along R, A and S.
        data: Intensity settings, whether to crop, and how many processes to use.
        progress: Gets bars, and a warning where label maps reach outside of the foreground.
        keep_copies: Whether to keep cases with the same first channel too, as where each is to be predicted.

    Raises:
        MedsslError: If the store cannot be written to, or no process can be started.
    """
    recipe = Recipe(store, spacing_mm, data)
    faults: dict[str, str] = {}
    checked = _check_headers(cases, faults, data=data, progress=progress)
    channels = _prepare_channels(checked, faults, recipe=recipe, progress=progress, keep_copies=keep_copies)
    labels = _prepare_labels(cases, channels, faults, recipe=recipe, progress=progress)
    prepared = []
    for case in cases:
        if case.scan_id in faults:
            continue
        label = labels.get(case.scan_id)
        prepared.append(
            PreparedCase(
                record=case,
                channels=tuple(channels[case.scan_id]),
                label_path=label.path if label else None,
                class_voxels=label.about.class_voxels if label else {},
            )
        )
    skipped = [SkippedScan(case.path, faults[case.scan_id]) for case in cases if case.scan_id in faults]
    return prepared, skipped


def _check_headers(
    cases: Sequence[LabelledCase], faults: Faults, *, data: DataConfig, progress: Progress
) -> dict[str, list[CheckedScan]]:
    """Return the channels of each case with sound headers and one grid; note the faults of the others."""
    records = tuple(
        ScanRecord(image, case.scan_id, case.subject_id, case.session_id, case.split)
        for case in cases
        for image in case.images
    )
    is_one_volume = data.time_points != "all" and not any(case.label for case in cases)
    data = data.model_copy(update={"time_points": data.time_points if is_one_volume else "skip"})
    checked, skipped = check_scans(Found("", records, ()), progress=progress, data=data)
    headers = {(scan.record.scan_id, scan.record.path): scan for scan in checked}
    reasons = {scan.path: scan.reason for scan in skipped}
    sound: dict[str, list[CheckedScan]] = {}
    for case in cases:
        scans = sound[case.scan_id] = []
        for image in case.images:
            scan = headers.get((case.scan_id, image))
            reason = _other_grid(scan, scans) if scan else reasons[image]
            if scan is None or reason:
                faults.setdefault(case.scan_id, _of_channel(len(scans), image, reason))
                break
            scans.append(scan)
    return {scan_id: scans for scan_id, scans in sound.items() if scan_id not in faults}


def _other_grid(scan: CheckedScan, before: Sequence[CheckedScan]) -> str | None:
    """Return why a channel does not lie on the grid of the first one, or None."""
    try:
        if before:
            refuse_other_grid(scan.header, before[0].header, name="the first channel")
    except ScanError as error:
        return str(error)
    return None


def _prepare_channels(
    checked: Mapping[str, Sequence[CheckedScan]],
    faults: Faults,
    *,
    recipe: Recipe,
    progress: Progress,
    keep_copies: bool,
) -> dict[str, list[PreparedScan]]:
    """Prepare the first channels, then the others on the boxes of those; note the faults."""
    firsts = [scans[0] for scans in checked.values()]
    id_of = {scan.record.path: scan.record.scan_id for scan in firsts}
    prepared, skipped = prepare_scans(
        firsts,
        store=recipe.store,
        spacing_mm=recipe.spacing_mm,
        data=recipe.data,
        progress=progress,
        keep_copies=keep_copies,
    )
    faults |= {id_of[scan.path]: scan.reason for scan in skipped}
    channels = {first.record.scan_id: [first] for first in prepared}
    tasks = [
        ScanTask(scan, recipe, first_channel=first)
        for first in prepared
        for scan in checked[first.record.scan_id][1:]
    ]
    outcomes = prepare_each(tasks, recipe=recipe, progress=progress) if tasks else []
    for task, outcome in zip(tasks, outcomes, strict=True):
        known = channels[task.name]
        if isinstance(outcome, Failed):
            faults.setdefault(task.name, _of_channel(len(known), task.path, outcome.reason))
        else:
            known.append(outcome)
    return channels


def _prepare_labels(
    cases: Sequence[LabelledCase],
    channels: Mapping[str, Sequence[PreparedScan]],
    faults: Faults,
    *,
    recipe: Recipe,
    progress: Progress,
) -> dict[str, PreparedLabel]:
    """Prepare the label maps of the cases without a fault so far, and note those that are found now."""
    tasks = [
        LabelTask(case.label, channels[case.scan_id][0], recipe)
        for case in cases
        if case.label and case.scan_id not in faults
    ]
    outcomes = prepare_labels(tasks, recipe=recipe, progress=progress) if tasks else []
    labels = {}
    for task, outcome in zip(tasks, outcomes, strict=True):
        if isinstance(outcome, Failed):
            faults[task.name] = f"Label map: {outcome.reason}"
        else:
            labels[task.name] = outcome
    return labels


def _of_channel(number: int, image: Path, reason: str | None) -> str:
    return f"Channel {number + 1} ({image.name}): {reason}" if number else str(reason)
