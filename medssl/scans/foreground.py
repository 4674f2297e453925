"""Where in a volume there is something to see."""

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice, slice]

THRESHOLD = 0.15
"""Share of the way from the darkest to the brightest voxels above which a voxel is foreground."""

MIN_SHARE = 0.005
"""Share of foreground voxels that makes a plane part of the box; isolated noise stays below it."""

MARGIN_VOXELS = 3
"""Planes kept around the foreground, so that faint edges and thin tips stay in."""


def foreground_box(volume: NDArray[np.float32]) -> Box:
    """Find the box that is left when empty planes are cut off each side of a volume.

    A plane is empty when hardly any of its voxels is brighter than 15 % of the way from the volume's dark end
    (10th percentile) to its bright end (99th). A scan without dark border planes is kept whole.

    Args:
        volume: ``(X, Y, Z)``, any intensity scale on which air is dark.

    Returns:
        One slice an axis.
    """
    coarse = volume[tuple(slice(None, None, max(1, length // 64)) for length in volume.shape)]
    dark, bright = np.percentile(coarse, (10, 99))
    is_foreground = volume > dark + THRESHOLD * (bright - dark)
    along_x, along_y, along_z = (
        _kept_planes(is_foreground.mean(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)
    )
    return along_x, along_y, along_z


def _kept_planes(foreground_share: NDArray[np.float64]) -> slice:
    kept = np.flatnonzero(foreground_share >= MIN_SHARE)
    if not kept.size:
        return slice(0, len(foreground_share))
    first = max(0, int(kept[0]) - MARGIN_VOXELS)
    return slice(first, min(len(foreground_share), int(kept[-1]) + 1 + MARGIN_VOXELS))
