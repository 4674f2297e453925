"""Which spacing and which crop size suit a set of scans.

The spacing follows nnU-Net's fingerprint (Isensee et al., Nature Methods 2021): the median, but a finer value
along an axis that most scans resolve badly.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medssl.config.schema import DataConfig
from medssl.scans.geometry import along_ras
from medssl.scans.record import ScanHeader

T = TypeVar("T")
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]

ANISOTROPY = 3.0
"""Ratio of spacings and of shapes from which nnU-Net calls an axis coarse."""

COARSE_PERCENTILE = 10
"""Percentile of the spacings that a coarse axis is planned with, as in nnU-Net."""

ISOTROPIC_RATIO = 1.5
"""Largest ratio of planned spacings that one isotropic value replaces."""

SMALLEST_CUBE = 16
"""Voxels along the side below which a cube shows too little anatomy and a flat crop is planned instead."""


def plan_spacing(headers: Sequence[ScanHeader], data: DataConfig) -> Spacing:
    """Plan the spacing all scans are resampled to, along R, A and S.

    An explicit ``data.spacing_mm`` wins. Otherwise each axis takes its median spacing; one that is more than
    three times as coarse as the others, and has less than a third of their voxels, takes its 10th percentile.
    Spacings within a factor of 1.5 become one isotropic value of the same voxel volume: little is lost, and
    all 24 turns of a cube then keep true proportions. Rounding to three significant digits keeps the plan,
    and with it all that was prepared, when a few scans are added.

    Args:
        headers: One for each scan; at least one.
        data: Settings of which ``spacing_mm`` is used.
    """
    if data.spacing_mm != "auto":
        return data.spacing_mm
    three = (np.float64, 3)
    shapes = np.fromiter((along_ras(header)[0] for header in headers), three, len(headers))
    spacings = np.fromiter((along_ras(header)[1] for header in headers), three, len(headers))
    planned = np.median(spacings, axis=0)
    coarse = _coarse_axis(planned, np.median(shapes, axis=0))
    if coarse is not None:
        finest_allowed = np.delete(planned, coarse).max()
        planned[coarse] = max(np.percentile(spacings[:, coarse], COARSE_PERCENTILE), finest_allowed)
    if planned.max() / planned.min() <= ISOTROPIC_RATIO:
        planned[:] = np.prod(planned) ** (1 / 3)
    return _three(float(f"{value:.3g}") for value in planned)


def planned_shape(header: ScanHeader, spacing_mm: Spacing) -> Shape:
    """Return the voxels a scan will have along R, A and S once resampled, before its border is cut away."""
    shape, spacing = along_ras(header)
    return _three(
        max(1, round(length * from_mm / to_mm))
        for length, from_mm, to_mm in zip(shape, spacing, spacing_mm, strict=True)
    )


def plan_crop_size(shapes: Sequence[Shape], *, spacing_mm: Spacing, stride: Shape, max_voxels: int) -> Shape:
    """Plan the largest network input that fits the scans, the encoder and the budget.

    With isotropic spacing it is a cube, which all 24 turns keep. Otherwise, and where scans are so thin that
    a cube would be tiny, the axes get equal physical extent as far as the scans reach.

    Args:
        shapes: Voxels of each prepared scan along R, A and S. Nine of ten hold a whole crop.
        spacing_mm: Their spacing along the same axes.
        stride: Total stride of the encoder; each side is a multiple of it, and at least one stride even where
            the scans are thinner, so that those need padding.
        max_voxels: Largest number of voxels, unless one stride a side already has more.
    """
    fit = np.percentile(np.array(shapes), 10, axis=0, method="lower")
    if max(spacing_mm) / min(spacing_mm) < 1.01:
        cube = _grow(np.full(3, fit.min()), (1.0, 1.0, 1.0), (math.lcm(*stride),) * 3, max_voxels)
        if cube[0] >= SMALLEST_CUBE:
            return cube
    return _grow(fit, spacing_mm, stride, max_voxels)


def _coarse_axis(spacing: NDArray[np.float64], shape: NDArray[np.float64]) -> int | None:
    """Return the axis that nnU-Net would call anisotropic, if any."""
    worst = int(spacing.argmax())
    has_coarse_spacing = spacing[worst] > ANISOTROPY * np.delete(spacing, worst).max()
    has_few_voxels = shape[worst] * ANISOTROPY < np.delete(shape, worst).min()
    return worst if has_coarse_spacing and has_few_voxels else None


def _grow(fit: NDArray[np.int64], spacing_mm: Spacing, stride: Shape, max_voxels: int) -> Shape:
    """Let the extent in millimetres grow, the same along all axes, until scans or budget are used up."""
    steps_that_fit = np.maximum(fit // stride, 1)
    step_mm = np.multiply(stride, spacing_mm)
    extents_mm = np.unique(
        np.concatenate([mm * np.arange(1, n + 1) for mm, n in zip(step_mm, steps_that_fit, strict=True)])
    )
    best = np.array(stride)
    for extent_mm in extents_mm:
        steps = np.clip(np.floor(extent_mm / step_mm + 1e-6), 1, steps_that_fit).astype(int)
        if np.prod(steps * stride) <= max_voxels:
            best = steps * stride
    return _three(int(side) for side in best)


def _three(values: Iterable[T]) -> tuple[T, T, T]:
    first, second, third = values
    return first, second, third
