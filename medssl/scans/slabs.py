"""Volumes that come slab by slab, resampled as `medssl.scans.resample` does whole ones."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from medssl.scans.resample import (
    LINEAR_ORDER,
    Shape,
    combine_planes,
    interpolation_matrix,
    resample_to_shape,
)


def resample_slabs(
    slabs: Iterable[NDArray[np.float32]], *, axis: int, shape: Shape, shape_to: Shape
) -> Iterator[tuple[slice, Iterator[NDArray[np.float32]]]]:
    """Resample a volume with several channels by linear interpolation, without ever holding all of it.

    Args:
        slabs: ``(C, X, Y, Z)`` each, one after the other along ``axis``.
        axis: Spatial axis that the volume is cut along: 0, 1 or 2.
        shape: Voxels of all slabs together.
        shape_to: Voxels of the result.

    Yields:
        Which planes of the result are ready, and those planes of each channel ``(X, Y, Z)``, to be taken
        before the next ones are asked for.
    """
    has_same_planes = shape[axis] == shape_to[axis]
    weights = np.eye(shape[axis], dtype=np.float32)
    if not has_same_planes:
        weights = interpolation_matrix(shape[axis], shape_to[axis], LINEAR_ORDER)
    needed = weights != 0
    first = needed.argmax(axis=1)
    stop = shape[axis] - needed[:, ::-1].argmax(axis=1)
    held, start, done = None, 0, 0
    for slab in slabs:
        held = slab if held is None else np.concatenate([held, slab], axis=1 + axis)
        end = start + held.shape[1 + axis]
        ready = int(np.count_nonzero(stop <= end))
        if ready > done:
            rows = weights[done:ready, start:end]
            along_axis = held if has_same_planes else (combine_planes(volume, rows, axis) for volume in held)
            yield slice(done, ready), (_across(volume, axis, shape_to) for volume in along_axis)
            done = ready
        if done < shape_to[axis]:
            unneeded = int(first[done]) - start
            held = held[(slice(None), *(slice(None),) * axis, slice(unneeded, None))]
            start += unneeded


def _across(planes: NDArray[np.float32], axis: int, shape_to: Shape) -> NDArray[np.float32]:
    """Resample planes along the two axes that they extend in."""
    x, y, z = (planes.shape[index] if index == axis else length for index, length in enumerate(shape_to))
    return resample_to_shape(planes, (x, y, z), order=LINEAR_ORDER)
