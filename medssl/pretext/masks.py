"""Which voxels of a crop are hidden, as cubes, slabs, or one hole, and what stands in their place."""

import math
from typing import Literal

import numpy as np
import torch

from medssl.errors import ConfigError

MaskShape = Literal["cubes", "slabs", "hole"]


def check_patch_size(crop_size: tuple[int, ...], *, shape: MaskShape, patch_size: int) -> None:
    """Raise ConfigError when a crop holds fewer than two cells, so that none could stay visible."""
    if shape != "hole" and patch_size >= max(crop_size):
        sides = " x ".join(map(str, crop_size))
        raise ConfigError(
            f"An inpainting patch_size of {patch_size} leaves a crop of {sides} voxels in one piece, so none "
            f"could stay visible; use at most {max(crop_size) // 2}."
        )


def draw_mask(
    crop_size: tuple[int, ...],
    *,
    shape: MaskShape,
    mask_ratio: float,
    patch_size: int,
    random: np.random.RandomState,
) -> np.ndarray:
    """Draw which voxels are hidden.

    Cubes and slabs divide the crop into cells that begin at its first voxel, so the last cell along an axis
    is cut off where sizes do not divide. At least one cell is hidden and at least one stays visible.

    Args:
        crop_size: Voxels along X, Y and Z.
        shape: "cubes" hides cells of ``patch_size`` voxels a side (He et al. 2022 in 3D); "slabs" hides cells
            of ``patch_size`` whole planes along a random axis; "hole" hides one box with the proportions of
            the crop at a random place (Pathak et al. 2016).
        mask_ratio: Hidden share in (0, 1), of the cells, or of the voxels for a hole.
        patch_size: Side of a cell in voxels; a hole does not use it.
        random: Where every random number is drawn from.

    Returns:
        Boolean ``(X, Y, Z)``, True = hidden.

    Raises:
        ConfigError: The crop holds fewer than two cells.
    """
    check_patch_size(crop_size, shape=shape, patch_size=patch_size)
    if shape == "hole":
        return _hide_hole(crop_size, mask_ratio, random)
    if shape == "cubes":
        return _hide_cells(crop_size, (patch_size,) * len(crop_size), mask_ratio, random)
    axis = random.choice([axis for axis, size in enumerate(crop_size) if size > patch_size])
    cell = tuple(patch_size if along == axis else size for along, size in enumerate(crop_size))
    return _hide_cells(crop_size, cell, mask_ratio, random)


def fill_with_mean(volume: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Return a volume whose hidden voxels are the mean of its visible ones, channel by channel.

    Voxels are chosen by their bits, times 0 or 1: that takes a quarter of the time of
    ``numpy.where`` for float16.

    Args:
        volume: ``(C, X, Y, Z)``, float16 or float32; a visible voxel keeps its value.
        hidden: Boolean ``(X, Y, Z)``, True = hidden.

    Returns:
        ``(C, X, Y, Z)`` of the same type, to which the mean is rounded.
    """
    as_bits = np.dtype(f"u{volume.itemsize}")
    visible = ~hidden
    bits = volume.view(as_bits) * visible.view(np.uint8)
    total = torch.from_numpy(bits.view(volume.dtype)).sum(dim=(1, 2, 3), dtype=torch.float32).numpy()
    mean = total / np.count_nonzero(visible)
    fill = mean.astype(volume.dtype).view(as_bits)[:, None, None, None]
    bits |= fill * hidden.view(np.uint8)
    return bits.view(volume.dtype)


def _hide_cells(
    crop_size: tuple[int, ...], cell: tuple[int, ...], mask_ratio: float, random: np.random.RandomState
) -> np.ndarray:
    grid = tuple(-(-size // side) for size, side in zip(crop_size, cell, strict=True))
    cells = math.prod(grid)
    hidden = np.zeros(cells, dtype=bool)
    hidden[random.permutation(cells)[: min(max(round(mask_ratio * cells), 1), cells - 1)]] = True
    mask = hidden.reshape(grid)
    for axis in reversed(range(len(cell))):  # short rows first, whole planes at the end
        mask = mask.repeat(cell[axis], axis=axis)
        mask = mask[(slice(None),) * axis + (slice(crop_size[axis]),)]
    return mask


def _hide_hole(crop_size: tuple[int, ...], mask_ratio: float, random: np.random.RandomState) -> np.ndarray:
    sides = _hole_sides(crop_size, mask_ratio)
    starts = [random.randint(size - side + 1) for size, side in zip(crop_size, sides, strict=True)]
    mask = np.zeros(crop_size, dtype=bool)
    mask[tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))] = True
    return mask


def _hole_sides(crop_size: tuple[int, ...], mask_ratio: float) -> list[int]:
    sides, left = [], mask_ratio
    for axis, size in enumerate(crop_size):
        # Each side makes up for what rounding the sides before it gained or lost.
        side = min(max(round(size * left ** (1 / (len(crop_size) - axis))), 1), size)
        left = min(left * size / side, 1.0)
        sides.append(side)
    if sides == list(crop_size):
        sides[int(np.argmax(sides))] -= 1
    return sides
