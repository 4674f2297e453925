"""Tell scans that can be used from files that only look like it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np
from numpy.typing import NDArray

from medssl.errors import ScanError
from medssl.progress import Progress
from medssl.scans.geometry import describe
from medssl.scans.read import has_value, open_image
from medssl.scans.record import CheckedScan, Found, ScanRecord, SkippedScan
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

_SAMPLED_VOXELS = 1_000_000
_SAMPLED_PLANES = 16


def check_scans(
    found: Found, *, progress: Progress, time_points: str = "skip", max_scan_gb: float = 8.0
) -> tuple[list[CheckedScan], list[SkippedScan]]:
    """Check the header of every scan that was found; reads no voxels.

    Args:
        found: From `medssl.scans.find.find_scans`.
        progress: Gets a bar.
        time_points: What a 4-D scan counts as, see `medssl.config.schema.DataConfig`.
        max_scan_gb: Size as float32 above which a scan is skipped.

    Returns:
        The scans with sound headers, in the order found, of which one file can hold several; and all that is
        left out so far: what `find_scans` skipped, then the rest, in the same order.
    """
    checked: list[CheckedScan] = []
    skipped = list(found.skipped)
    with (
        progress.track("Checking headers", total=len(found.scans)) as advance,
        ThreadPoolExecutor(HEADER_THREADS) as pool,
    ):
        check = partial(_check, time_points=time_points, max_scan_gb=max_scan_gb)
        for record, outcome in zip(found.scans, pool.map(check, found.scans), strict=True):
            if isinstance(outcome, str):
                skipped.append(SkippedScan(record.path, outcome))
            else:
                checked.extend(outcome)
            advance()
    return checked, skipped


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


def _check(record: ScanRecord, *, time_points: str, max_scan_gb: float) -> list[CheckedScan] | str:
    """Return the scans in a file, or why it cannot be used."""
    try:
        image = open_image(record.path)
        _refuse_larger(image.shape, max_scan_gb)
        if time_points == "skip" or len(image.shape) != 4 or image.shape[3] == 1:
            return [CheckedScan(record, describe(image))]
        numbers = [str(number) for number in range(image.shape[3])]
        wanted = {"first": numbers[:1], "mean": [MEAN], "all": numbers}[time_points]
        header = describe(AtTimePoint(image, wanted[0]))
    except ScanError as error:
        return str(error)
    return [CheckedScan(_at_time_point(record, number, is_one=len(wanted) == 1), header) for number in wanted]


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
