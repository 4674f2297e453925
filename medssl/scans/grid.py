"""From the grid of prepared scans back to that of their source files; and label maps onto other grids."""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medssl.scans.geometry import along_ras, from_ras
from medssl.scans.record import Bounds, ScanHeader
from medssl.scans.resample import LINEAR_ORDER, Shape, resample_to_shape

T = TypeVar("T", bound=np.generic)


def to_source(
    volume: NDArray[np.float32], *, header: ScanHeader, foreground: Bounds, fill: float
) -> NDArray[np.float32]:
    """Bring a volume on the prepared grid back to the voxels of its source, by linear interpolation.

    The outer corners of the volume are those of the foreground box, as `medssl.scans.resample` left them.

    Args:
        volume: ``(X, Y, Z)`` on the prepared grid, such as the probability of one class.
        header: Of the source file.
        foreground: The box of the source volume that was prepared.
        fill: Value outside of the box.

    Returns:
        ``(I, J, K)``, the axes in the order and direction in which the source stores them.
    """
    return _place(_in_box(volume, foreground), header=header, foreground=foreground, fill=fill)


def label_map_on_source(
    probabilities: Iterable[NDArray[np.float32]], *, header: ScanHeader, foreground: Bounds
) -> NDArray[np.uint8]:
    """Return the most probable class of each voxel of the source; 0 outside of the foreground box.

    Probabilities are interpolated before classes are compared, one class at a time, so memory for two volumes
    of the source is enough if the iterable makes them one by one.

    Args:
        probabilities: For each class, from the background on, ``(X, Y, Z)`` on the prepared grid; logits will
            do as well.
        header: Of the source file.
        foreground: The box of the source volume that was prepared.

    Returns:
        ``(I, J, K)``, the axes in the order and direction in which the source stores them.
    """
    scores = ((index, _in_box(volume, foreground)) for index, volume in enumerate(probabilities))
    return _place(_highest(scores), header=header, foreground=foreground, fill=0)


def resample_labels(labels: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
    """Resample a label map: each class as a volume of zeros and ones, linearly, and the largest share wins.

    That keeps surfaces smooth where nearest neighbours would leave steps, as nnU-Net does it (Isensee et al.,
    Nature Methods 2021). The outer corners of the outer voxels stay where they are.

    Args:
        labels: ``(X, Y, Z)``.
        shape: Voxels along the same axes; the labels are returned untouched if they have them already.
    """
    if labels.shape == shape:
        return labels
    return _highest(
        (label, resample_to_shape((labels == label).astype(np.float32), shape, order=LINEAR_ORDER))
        for label in np.unique(labels).tolist()
    )


def _in_box(volume: NDArray[np.float32], foreground: Bounds) -> NDArray[np.float32]:
    x, y, z = (stop - start for start, stop in foreground)
    return resample_to_shape(volume, (x, y, z), order=LINEAR_ORDER)


def _highest(scores: Iterable[tuple[int, NDArray[np.float32]]]) -> NDArray[np.uint8]:
    """Return the label with the highest score in each voxel, the first one where several are equal."""
    remaining = iter(scores)
    first, best = next(remaining)
    labels = np.full(best.shape, first, dtype=np.uint8)
    for label, score in remaining:
        is_higher = score > best
        labels[is_higher] = label
        best = np.maximum(best, score)
    return labels


def _place(box: NDArray[T], *, header: ScanHeader, foreground: Bounds, fill: float) -> NDArray[T]:
    """Put a box of the source volume where it belongs, and turn the whole to the stored axes."""
    volume = np.full(along_ras(header)[0], fill, dtype=box.dtype)
    volume[tuple(slice(*sides) for sides in foreground)] = box
    return from_ras(volume, header)
