"""From the grid of prepared scans back to that of their source files; and label maps onto other grids."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medssl.scans.geometry import as_ras
from medssl.scans.record import Bounds, ScanHeader
from medssl.scans.resample import LINEAR_ORDER, Shape, resample_to_shape
from medssl.scans.slabs import resample_slabs


def label_map_on_source(
    slabs: Iterable[NDArray[np.float32]],
    *,
    axis: int,
    shape: Shape,
    header: ScanHeader,
    foreground: Bounds,
    probabilities: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """Return the most probable class of each voxel of the source; 0 outside of the foreground box.

    Probabilities are interpolated linearly before classes are compared, slab by slab and one class at a time,
    so memory for a few slabs and the label map is enough. The outer corners of the prepared volume are those
    of the foreground box, as `medssl.scans.resample` left them.

    Args:
        slabs: Of the prepared volume, one after the other along ``axis``: ``(C, X, Y, Z)`` with a channel for
            each class, from the background on. One slab may be all of it.
        axis: 0, 1 or 2.
        shape: Voxels of the prepared volume.
        header: Of the source file.
        foreground: The box of the source volume that was prepared.
        probabilities: ``(C, I, J, K)`` on the source, filled with what is compared; outside of the foreground
            box the background gets 1.

    Returns:
        ``(I, J, K)``, the axes in the order and direction in which the source stores them.
    """
    labels = np.zeros(header.shape, dtype=np.uint8)
    kept = [] if probabilities is None else [as_ras(volume, header) for volume in probabilities]
    for index, volume in enumerate(kept):
        volume[...] = index == 0
    inside = tuple(slice(*sides) for sides in foreground)
    box = as_ras(labels, header)[inside]
    x, y, z = box.shape
    for planes, classes in resample_slabs(slabs, axis=axis, shape=shape, shape_to=(x, y, z)):
        here = (*(slice(None),) * axis, planes)
        box[here] = _highest(enumerate(_keep(classes, [volume[inside][here] for volume in kept])))
    return labels


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


def _keep(
    volumes: Iterable[NDArray[np.float32]], places: Sequence[NDArray[np.float32]]
) -> Iterator[NDArray[np.float32]]:
    """Pass volumes on, and write each to its place where there are places."""
    for index, volume in enumerate(volumes):
        if places:
            places[index][...] = volume
        yield volume


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
