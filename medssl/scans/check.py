"""Tell scans that can be used from files that only look like it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from medssl import __version__
from medssl.errors import ScanError
from medssl.progress import Progress
from medssl.scans.file_memory import FileMemory, Signature
from medssl.scans.geometry import describe
from medssl.scans.read import has_value, image_suffix, open_image
from medssl.scans.record import CheckedScan, Found, ScanHeader, ScanRecord, SkippedScan
from medssl.scans.sources import source_signature
from medssl.scans.stored import MEAN, AtTimePoint

HEADER_THREADS = 8
"""Files opened at once: this work waits for the disk or the network, hardly for the processor."""

MAX_LABELS = 20
"""Most distinct values a label map has. The poorest of 1,254 real MR and CT crops has 109."""

MAX_BACKGROUND_SHARE = 0.999
"""Share of one value above which a scan is called empty. The largest in the same crops is 0.58."""

MIN_CORRELATION = 0.2
"""Correlation of neighbouring voxels, along the smoothest axis, below which a scan is noise.

The lowest of the same crops is 0.52; 400 volumes of a thousand voxels of white noise stay below 0.12.
"""

_HEADER = TypeAdapter(ScanHeader)

_SAMPLED_VOXELS = 1_000_000
_SAMPLED_PLANES = 16


def check_scans(
    found: Found,
    *,
    progress: Progress,
    time_points: str = "skip",
    max_scan_gb: float = inf,
    memory: FileMemory | None = None,
) -> tuple[list[CheckedScan], list[SkippedScan]]:
    """Check the header of every scan that was found; reads no voxels.

    Args:
        found: From `medssl.scans.find.find_scans`.
        progress: Gets a bar.
        time_points: What a 4-D scan counts as, see `medssl.config.schema.DataConfig`.
        max_scan_gb: Size as float32 above which a scan is skipped.
        memory: Of headers, so that files that did not change need not be opened; see `header_memory`.

    Returns:
        The scans with sound headers, in the order found, of which one file can hold several; and all that is
        left out so far: what `find_scans` skipped, then the rest, in the same order.
    """
    checked: list[CheckedScan] = []
    skipped = list(found.skipped)
    facts: list[tuple[Path, Signature, Any]] = []
    with (
        progress.track("Checking headers", total=len(found.scans)) as advance,
        ThreadPoolExecutor(HEADER_THREADS) as pool,
    ):
        check = partial(_check, time_points=time_points, max_scan_gb=max_scan_gb, memory=memory)
        for record, outcome in zip(found.scans, pool.map(check, found.scans), strict=True):
            if isinstance(outcome, str):
                skipped.append(SkippedScan(record.path, outcome))
            else:
                checked.extend(outcome.scans)
                facts.extend(outcome.facts)
            advance()
    if memory:
        memory.remember_all(facts)
    return checked, skipped


def header_memory(store: Path) -> FileMemory:
    """Return the headers that runs with one store remember; each version reads them anew."""
    return FileMemory(store / f"headers-{__version__}.jsonl")


def check_voxels(volume: NDArray[np.float32]) -> None:
    """Check that a volume's intensities can be those of a scan.

    Args:
        volume: ``(X, Y, Z)``, at least two voxels along each axis.

    Raises:
        ScanError: If voxels without a value are left, or it is constant, a label map, empty or noise.
    """
    valid_share = np.count_nonzero(has_value(volume)) / volume.size
    if valid_share < 1:
        raise ScanError(f"{1 - valid_share:.1%} of its voxels are NaN or infinite.")
    values, counts = np.unique(random_voxels(volume), return_counts=True)
    if values.size == 1 and volume.min() == volume.max():
        raise ScanError(f"All its voxels have the same value ({values[0]:g}).")
    if counts.max() > MAX_BACKGROUND_SHARE * counts.sum():
        raise ScanError(
            f"It is nearly empty: {counts.max() / counts.sum():.2%} of its voxels have the same value."
        )
    if values.size <= MAX_LABELS:
        raise ScanError(
            f"It has only {values.size} distinct values, so it is a label map rather than a scan."
        )
    correlation = max(_neighbour_correlation(volume, axis) for axis in range(3))
    if correlation < MIN_CORRELATION:
        raise ScanError(f"It is noise: neighbouring voxels are not alike (correlation {correlation:.2f}).")


def random_voxels(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return all voxels of a small volume, or a million of a large one, always the same ones."""
    if volume.size <= _SAMPLED_VOXELS:
        return volume.ravel()
    return volume.ravel()[np.random.default_rng(0).integers(volume.size, size=_SAMPLED_VOXELS)]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The scans in a file, and what to remember of it."""

    scans: list[CheckedScan]
    facts: list[tuple[Path, Signature, Any]] = field(default_factory=list)


def _check(
    record: ScanRecord, *, time_points: str, max_scan_gb: float, memory: FileMemory | None
) -> _Outcome | str:
    """Return the scans in a file, or why it cannot be used."""
    signature = _signature(record.path) if memory else None
    known = memory.look_up(record.path, signature) if memory and signature else None
    try:
        if known is not None:
            header = _HEADER.validate_python(known)
            _refuse_larger(header.shape, max_scan_gb)
            return _Outcome([CheckedScan(record, header)])
        image = open_image(record.path)
        _refuse_larger(image.shape, max_scan_gb)
        if time_points == "skip" or len(image.shape) != 4 or image.shape[3] == 1:
            header = describe(image)
            facts = [(record.path, signature, _HEADER.dump_python(header, mode="json"))] if signature else []
            return _Outcome([CheckedScan(record, header)], facts)
        numbers = [str(number) for number in range(image.shape[3])]
        wanted = {"first": numbers[:1], "mean": [MEAN], "all": numbers}[time_points]
        header = describe(AtTimePoint(image, wanted[0]))
    except ScanError as error:
        return str(error)
    is_one = len(wanted) == 1
    return _Outcome([CheckedScan(_at_time_point(record, number, is_one=is_one), header) for number in wanted])


def _signature(path: Path) -> Signature | None:
    """Return the signature of a file that is a scan by itself; the headers of DICOM are read to find them."""
    try:
        return source_signature(path) if image_suffix(path.name) else None
    except OSError:
        return None


def _refuse_larger(shape: tuple[int, ...], max_scan_gb: float) -> None:
    size_gb = prod(shape) * np.dtype(np.float32).itemsize / 1e9
    if size_gb > max_scan_gb:
        raise ScanError(f"It takes {size_gb:.3g} GB in memory, and data.max_scan_gb allows {max_scan_gb:g}.")


def _at_time_point(record: ScanRecord, number: str, *, is_one: bool) -> ScanRecord:
    scan_id = record.scan_id if is_one else f"{record.scan_id}@{number}"
    return replace(record, scan_id=scan_id, time_point=number)


def _neighbour_correlation(volume: NDArray[np.float32], axis: int) -> float:
    """Return the correlation of voxels with their next neighbours along one axis, on a few planes."""
    planes = np.unique(np.linspace(0, volume.shape[axis] - 2, _SAMPLED_PLANES).astype(int))
    here = volume.take(planes, axis).ravel().astype(np.float64)
    there = volume.take(planes + 1, axis).ravel().astype(np.float64)
    if here.std() == 0 or there.std() == 0:
        return 0.0
    return float(np.corrcoef(here, there)[0, 1])
