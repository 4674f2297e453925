"""Where and along which axes a residual U-Net halves its feature maps, planned from crop and spacing."""

from collections.abc import Sequence
from dataclasses import dataclass

from medssl.networks.encoder import Stride3D

FEWEST_VOXELS = 2
"""Voxels an axis of the coarsest map keeps.

nnU-Net keeps four and plans crops of about 128 voxels. Ours are half as long, and pretext tasks read the mean
over the coarsest map, so depth is worth more than extent here: with two, crops of 64 voxels already get all
six stages of nnU-Net's ResEncL. One would be too few: instance norm needs more than one voxel.
"""

COARSE_FACTOR = 2.0
"""An axis whose voxels are at least this many times longer than the finest axis' counts as coarse."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """Strides and kernels of each stage along X, Y and Z, fine to coarse.

    Attributes:
        strides: Of each stage relative to the one before; the first keeps the input's size.
        kernel_sizes: Of the convolutions in each stage.
    """

    strides: tuple[Stride3D, ...]
    kernel_sizes: tuple[tuple[int, int, int], ...]


def plan_stages(crop_size: Sequence[int], spacing_mm: Sequence[float], *, most_stages: int) -> StagePlan:
    """Plan stages by the rule of nnU-Net (Isensee et al., Nature Methods 2021).

    An axis is halved as long as it keeps `FEWEST_VOXELS` and its spacing is below twice that of the finest
    axis that can still be halved. One axis alone is halved only while it has three times `FEWEST_VOXELS`.
    Kernels span one voxel across an axis until it is no longer coarse, three from there on; in the last
    stage always three.

    Args:
        crop_size: Voxels of the network's input along X, Y and Z.
        spacing_mm: Their spacing.
        most_stages: Where to stop if the crop would allow more.

    Returns:
        A plan of at most ``most_stages`` stages, fewer where no axis can be halved any further.
    """
    size, spacing = list(crop_size), list(spacing_mm)
    kernel = _kernel(spacing, wide=(False, False, False))
    strides: list[Stride3D] = [(1, 1, 1)]
    kernels = [kernel]
    while len(strides) < most_stages and (halved := _axes_to_halve(size, spacing)):
        stride = tuple(2 if axis in halved else 1 for axis in range(3))
        size = [-(-voxels // step) for voxels, step in zip(size, stride, strict=True)]
        spacing = [mm * step for mm, step in zip(spacing, stride, strict=True)]
        kernel = _kernel(spacing, wide=tuple(width == 3 for width in kernel))
        strides.append((stride[0], stride[1], stride[2]))
        kernels.append(kernel)
    return StagePlan(tuple(strides), (*kernels[:-1], (3, 3, 3)))


def _axes_to_halve(size: Sequence[int], spacing: Sequence[float]) -> set[int]:
    long_enough = [axis for axis in range(3) if size[axis] >= 2 * FEWEST_VOXELS]
    finest = min((spacing[axis] for axis in long_enough), default=0.0)
    halved = {axis for axis in long_enough if spacing[axis] < COARSE_FACTOR * finest}
    is_short_and_alone = len(halved) == 1 and all(size[axis] < 3 * FEWEST_VOXELS for axis in halved)
    return set() if is_short_and_alone else halved


def _kernel(spacing: Sequence[float], *, wide: Sequence[bool]) -> tuple[int, int, int]:
    finest = min(spacing)
    x, y, z = (
        3 if was_wide or mm < COARSE_FACTOR * finest else 1
        for mm, was_wide in zip(spacing, wide, strict=True)
    )
    return x, y, z
