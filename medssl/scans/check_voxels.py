"""Tell voxels that can be those of a scan from what only has its shape."""

import numpy as np
from numpy.typing import NDArray

from medssl.errors import ScanError
from medssl.scans.read import has_value

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


def _neighbour_correlation(volume: NDArray[np.float32], axis: int) -> float:
    """Return the correlation of voxels with their next neighbours along one axis, on a few planes."""
    planes = np.unique(np.linspace(0, volume.shape[axis] - 2, _SAMPLED_PLANES).astype(int))
    here = volume.take(planes, axis).ravel().astype(np.float64)
    there = volume.take(planes + 1, axis).ravel().astype(np.float64)
    if here.std() == 0 or there.std() == 0:
        return 0.0
    return float(np.corrcoef(here, there)[0, 1])
