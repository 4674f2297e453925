"""Which slices make one volume, in which order, and whether any is missing.

Two series never end in one volume, nor two directions or spacings of one; and where slices are missing the
spacing is not averaged over the gap, but the series refused.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl.errors import ScanError
from medssl.scans.dicom.places import is_archive, is_dicom, list_folder, on_disk
from medssl.scans.dicom.slices import NoSliceError, Slice, read_slices
from medssl.scans.file_memory import Signature, file_signature

MIN_SLICES = 3
"""Of fewer it cannot be told whether one is missing between them."""

SAME_PLACE_MM = 1e-3
"""Distance below which two slices lie at the same place."""

UNEVEN_MM = 0.02
"""Deviation from the usual distance of slices that is rounding: headers hold two decimals at least."""

UNEVEN_SHARE = 0.01
"""The same, as a share of that distance."""

OFF_LINE_VOXELS = 0.1
"""Largest distance of a slice from the line through the first and the last."""


_SIGNATURE_BYTES = 7
"""So that it is a whole number of 64 bits to whatever reads it."""


@dataclass(frozen=True, slots=True)
class Series:
    """Slices that belong together.

    Attributes:
        files: Their names in the folder, sorted; the first stands for the series.
        slices: In the order in which they lie along the body; empty where the series is refused.
        reason: Why it cannot be read as a volume, or None.
        patient_id: Whom the first file shows; to compare, never to tell.
        is_lasting: Whether the reason lies in the files, rather than in this machine at this moment.
    """

    files: tuple[str, ...]
    slices: tuple[Slice, ...] = ()
    reason: str | None = None
    patient_id: str = field(default="", repr=False)
    is_lasting: bool = True


def folder_signature(folder: Path) -> Signature:
    """Return two numbers that change when a DICOM file of a folder, or the archive it is in, changes.

    They are the bytes in all files and a hash of their names, sizes, times and permissions.

    Raises:
        OSError: If the folder is not there.
        ScanError: If it cannot be opened.
    """
    archive = on_disk(folder)
    if is_archive(archive):
        return file_signature(archive)
    size_bytes = 0
    digest = hashlib.blake2b(digest_size=_SIGNATURE_BYTES)
    for name in list_folder(folder):
        state = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118 - a Path for each costs time
        size_bytes += state.st_size
        digest.update(f"{name!r} {state.st_size} {state.st_mtime_ns} {state.st_mode}\n".encode())
    return size_bytes, int.from_bytes(digest.digest())


def series_in(folder: Path) -> tuple[Series, ...]:
    """Return the series of a folder, on disk or in an archive, in the order of their first files.

    Raises:
        ScanError: If the folder cannot be opened.
    """
    try:
        return _series_in(folder, folder_signature(folder))
    except OSError as error:
        raise ScanError(f"The folder cannot be opened: {error.strerror}.") from error


def series_folder(path: Path) -> Path:
    """Return the folder, on disk or in an archive, of what stands for a series."""
    return path if path.is_dir() or is_archive(path) else path.parent


def series_of(path: Path) -> Series:
    """Return the series that a file belongs to, or that is alone in a folder.

    Raises:
        ScanError: If there is none, more than one, or it is no volume.
    """
    folder = series_folder(path)
    if folder == path:
        found = [series for series in series_in(folder) if not series.reason] or list(series_in(folder))
        if len(found) > 1:
            names = ", ".join(series.files[0] for series in found)
            raise ScanError(f"It holds {len(found)} DICOM series; name a file of one: {names}.")
    else:
        found = [series for series in series_in(folder) if path.name in series.files]
    if not found:
        raise ScanError("It holds no DICOM series.")
    if found[0].reason:
        raise ScanError(found[0].reason)
    return found[0]


@lru_cache(maxsize=16)
def _series_in(folder: Path, signature: Signature) -> tuple[Series, ...]:
    alike: dict[tuple[object, ...], list[Slice]] = defaultdict(list)
    refused: dict[tuple[str, str, bool], list[str]] = defaultdict(list)
    for name in filter(lambda name: is_dicom(folder / name), list_folder(folder)):
        try:
            for each in read_slices(folder / name):
                alike[_likeness(each)].append(each)
        except NoSliceError as error:
            refused[error.series_uid, str(error), error.is_lasting].append(name)
    series = [
        *(series for slices in alike.values() for series in _separate(slices)),
        *(
            Series(tuple(names), reason=reason, is_lasting=is_lasting)
            for (_, reason, is_lasting), names in refused.items()
        ),
    ]
    return tuple(sorted(series, key=lambda each: each.files[0]))


def _likeness(each: Slice) -> tuple[object, ...]:
    return (
        each.series_uid,
        each.shape,
        each.dtype,
        tuple(np.round(each.orientation, 3)),
        tuple(np.round(each.spacing_mm, 4)),
    )


def _separate(slices: Sequence[Slice]) -> Iterator[Series]:
    """Yield the volumes among slices of one series that are alike."""
    slices = list({(each.uid, each.frame): each for each in reversed(slices)}.values())[::-1]
    for volume in _volumes(slices):
        yield _in_order(volume)


def _volumes(slices: list[Slice]) -> list[list[Slice]]:
    """Part slices that lie at the same places by what tells them apart, if anything does."""
    if not _share_places(slices):
        return [slices]
    for index in range(len(slices[0].separating)):
        parts = defaultdict(list)
        for each in slices:
            parts[each.separating[index]].append(each)
        volumes = list(parts.values())
        is_even = len({len(volume) for volume in volumes}) == 1 and len(volumes[0]) >= MIN_SLICES
        if is_even and not any(map(_share_places, volumes)):
            return volumes
    return [slices]


def _share_places(slices: Sequence[Slice]) -> bool:
    return bool(np.any(np.diff(np.sort(_heights_mm(slices))) < SAME_PLACE_MM))


def _heights_mm(slices: Sequence[Slice]) -> NDArray[np.float64]:
    """Return where slices lie along the normal of their plane."""
    normal = np.cross(slices[0].orientation[:3], slices[0].orientation[3:])
    return np.array([each.position_mm for each in slices]) @ normal


def _in_order(slices: Sequence[Slice]) -> Series:
    heights_mm = _heights_mm(slices)
    ordered = tuple(slices[index] for index in np.argsort(heights_mm, kind="stable"))
    files = tuple(sorted({each.name for each in slices}))
    reason = _gap_reason(np.sort(heights_mm)) or _line_reason(ordered)
    patient_id = min(slices, key=attrgetter("name")).patient_id
    return Series(files, () if reason else ordered, reason, patient_id)


def _gap_reason(heights_mm: NDArray[np.float64]) -> str | None:
    if len(heights_mm) < MIN_SLICES:
        many = "one slice" if len(heights_mm) == 1 else f"{len(heights_mm)} slices"
        return f"It has {many}, too few for a volume: at least {MIN_SLICES} are needed."
    if not np.all(np.isfinite(heights_mm)):
        return "The header's positions hold values that are not finite."
    steps_mm = np.diff(heights_mm)
    at_same_place = int(np.count_nonzero(steps_mm < SAME_PLACE_MM))
    if at_same_place:
        return (
            f"Of its {len(heights_mm)} slices, {at_same_place} lie at the place of another: several volumes "
            "in one series, which nothing in the headers tells apart."
        )
    usual_mm = float(np.median(steps_mm))
    allowed_mm = max(UNEVEN_MM, UNEVEN_SHARE * usual_mm)
    if np.all(np.abs(steps_mm - usual_mm) <= allowed_mm):
        return None
    multiples = steps_mm / steps_mm.min()
    missing = int(np.sum(np.rint(multiples) - 1))
    if np.all(np.abs(steps_mm - np.rint(multiples) * steps_mm.min()) <= np.rint(multiples) * allowed_mm):
        many = "A slice is" if missing == 1 else f"{missing} slices are"
        return (
            f"{many} missing: they lie {steps_mm.min():.4g} mm apart, with a gap of {steps_mm.max():.4g} mm."
        )
    return (
        f"Its slices lie unevenly, {steps_mm.min():.4g} to {steps_mm.max():.4g} mm apart; "
        "resample it to an even grid first."
    )


def _line_reason(ordered: Sequence[Slice]) -> str | None:
    positions = np.array([each.position_mm for each in ordered])
    share = np.linspace(0, 1, len(ordered))[:, None]
    off_mm = np.abs(positions - (positions[0] + share * (positions[-1] - positions[0]))).max()
    if off_mm > OFF_LINE_VOXELS * min(ordered[0].spacing_mm):
        return f"Its slices do not lie in one line: one is {off_mm:.2g} mm beside it."
    return None
