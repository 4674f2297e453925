"""Change a volume's voxel spacing."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Spacing = tuple[float, float, float]

Shape = tuple[int, int, int]

SPLINE_ORDER = 3
LINEAR_ORDER = 1

NEGLIGIBLE = 1e-8
"""Weights that float32 would lose beside the others of their row."""

ROWS_AT_ONCE = 32
"""With fewer, products are small; with more, each takes planes that only some of its rows need."""


def resample(volume: NDArray[np.float32], spacing_from: Spacing, spacing_to: Spacing) -> NDArray[np.float32]:
    """Resample a volume by cubic B-splines, with Gaussian smoothing along axes that lose voxels.

    The field of view is kept: the outer corners of the outer voxels stay where they are, and an axis gets the
    number of voxels that comes closest to ``spacing_to``, at least one. So the spacing is exact up to that
    rounding. Axes whose number of voxels stays the same are returned untouched.

    Args:
        volume: ``(X, Y, Z)``.
        spacing_from: Its voxel spacing in mm.
        spacing_to: The wanted one.
    """
    x, y, z = (
        max(1, round(length * from_mm / to_mm))
        for length, from_mm, to_mm in zip(volume.shape, spacing_from, spacing_to, strict=True)
    )
    return resample_to_shape(volume, (x, y, z), order=SPLINE_ORDER)


def resample_to_shape(volume: NDArray[np.float32], shape: Shape, *, order: int) -> NDArray[np.float32]:
    """Resample a volume to a number of voxels, as `resample` does.

    The interpolation is separable and linear, so each axis is a product with a small matrix. That gives the
    values of `scipy.ndimage.zoom` with ``grid_mode``, in a fraction of its time.

    Args:
        volume: ``(X, Y, Z)``.
        shape: Voxels along the same axes.
        order: Of the B-splines: `SPLINE_ORDER` for intensities, and `LINEAR_ORDER`, which neither undershoots
            nor overshoots, for probabilities.
    """
    for axis, (n_from, n_to) in enumerate(zip(volume.shape, shape, strict=True)):
        if n_to != n_from:
            weights = interpolation_matrix(n_from, n_to, order)
            volume = combine_planes(volume, weights, axis)
    return np.ascontiguousarray(volume)


def combine_planes(
    volume: NDArray[np.float32], weights: NDArray[np.float32], axis: int
) -> NDArray[np.float32]:
    """Multiply a volume with an ``(n_to, n_from)`` matrix along one axis.

    Some rows at a time, for which only few planes count: that and BLAS reading the volume as it lies take a
    twentieth of the time of one product.
    """
    n_from, n_to = volume.shape[axis], len(weights)
    planes = volume.reshape(math.prod(volume.shape[:axis]), n_from, math.prod(volume.shape[axis + 1 :]))
    combined = np.empty((len(planes), n_to, planes.shape[2]), np.float32)
    for first in range(0, n_to, ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        needed = np.flatnonzero(weights[rows].any(axis=0))
        columns = slice(needed[0], needed[-1] + 1)
        if planes.shape[2] > 1:
            np.matmul(weights[rows, columns], planes[:, columns], out=combined[:, rows])
        else:  # the last axis: one product instead of one for each pair of the others
            np.matmul(planes[:, columns, 0], weights[rows, columns].T, out=combined[:, rows, 0])
    return combined.reshape(*volume.shape[:axis], n_to, *volume.shape[axis + 1 :])


def interpolation_matrix(n_from: int, n_to: int, order: int) -> NDArray[np.float32]:
    """Return the ``(n_to, n_from)`` matrix that resamples one axis: what happens to each unit impulse.

    A row is zero but for some neighbours: few with `LINEAR_ORDER`, and with `SPLINE_ORDER` those within some
    15 voxels, since the prefilter of cubic B-splines falls to a quarter from each voxel to the next.
    """
    impulses = np.eye(n_from)
    if n_to < n_from:
        # Half a voxel for each voxel that is skipped, as in scikit-image; less would alias, more would blur.
        sigma_voxels = (n_from / n_to - 1) / 2
        impulses = ndimage.gaussian_filter1d(impulses, sigma_voxels, axis=0, mode="reflect")
    zoom = (n_to / n_from, 1)
    weights = ndimage.zoom(impulses, zoom, order=order, mode="reflect", grid_mode=True)
    # SciPy's prefilter is off by up to 0.05 % along axes of two or three voxels.
    weights /= weights.sum(axis=1, keepdims=True)
    weights[np.abs(weights) < NEGLIGIBLE] = 0
    return weights.astype(np.float32)
