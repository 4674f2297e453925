"""Two views of one volume: turned, scaled and cut each in its own way, with the points that both show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Size3D = tuple[int, int, int]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """How a crop is taken from a volume.

    Attributes:
        centre: Where in the volume its middle lies, in voxels ``(3,)``.
        matrix: From the crop's axes to the volume's, in voxels ``(3, 3)``.
        exponent: Power to which intensities in [0, 1] are raised.
    """

    centre: Floats
    matrix: Floats
    exponent: float

    def places(self, crop_size: Size3D) -> Floats:
        """Return where in the volume each voxel of the crop lies, in voxels ``(*crop_size, 3)``."""
        along = [np.arange(side, dtype=np.float32) - (side - 1) / 2 for side in crop_size]
        offsets = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1)
        return np.asarray(offsets @ self.matrix.T + self.centre, dtype=np.float32)

    def indices(self, places: Floats, crop_size: Size3D) -> Floats:
        """Return which voxels of the crop lie at places of the volume ``(..., 3)``, with fractions."""
        offsets = (places - self.centre) @ np.linalg.inv(self.matrix).T
        return np.asarray(offsets + (np.array(crop_size) - 1) / 2, dtype=np.float32)


@dataclass(frozen=True)
class ViewRange:
    """How far views may differ.

    Attributes:
        crop_size: Voxels of a view along X, Y and Z.
        spacing_mm: Of the volume, and nearly of the view.
        rotate_degrees: Largest turn about X, Y and Z.
        scale: Factors along the axes are drawn from [1 - scale, 1 + scale].
        gamma: Exponents are drawn from [exp(-gamma), exp(gamma)].
    """

    crop_size: Size3D
    spacing_mm: tuple[float, float, float]
    rotate_degrees: tuple[float, float, float]
    scale: float
    gamma: float

    def draw_pair(self, shape: Sequence[int], random: np.random.RandomState) -> tuple[View, View]:
        """Draw two views of a volume of ``shape`` (X, Y, Z) whose middles lie within a quarter of a crop."""
        lowest = (np.minimum(self.crop_size, shape) - 1) / 2
        highest = np.array(shape) - 1 - lowest
        first = random.uniform(lowest, highest)
        nearby = first + random.uniform(-0.25, 0.25, size=3) * self.crop_size
        return self._draw(first, random), self._draw(np.clip(nearby, lowest, highest), random)

    def _draw(self, centre: np.ndarray, random: np.random.RandomState) -> View:
        degrees = random.uniform(-1, 1, size=3) * self.rotate_degrees
        turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
        factors = random.uniform(1 - self.scale, 1 + self.scale, size=3)
        spacing = np.array(self.spacing_mm)
        matrix = turn * factors * spacing / spacing[:, None]  # turned in mm, so that nothing is sheared
        exponent = float(np.exp(random.uniform(-self.gamma, self.gamma)))
        return View(centre.astype(np.float32), matrix.astype(np.float32), exponent)


def take_view(volume: Floats, view: View, crop_size: Size3D) -> Floats:
    """Return the crop that a view shows, linearly interpolated; beyond the volume its border goes on.

    Args:
        volume: ``(C, X, Y, Z)`` in [0, 1].
        view: Where and how.
        crop_size: Voxels along X, Y and Z.

    Returns:
        ``(C, *crop_size)``.
    """
    grid = torch.from_numpy(to_grid(view.places(crop_size), volume.shape[1:]))
    crop = F.grid_sample(
        torch.from_numpy(np.ascontiguousarray(volume))[None],
        grid[None],
        padding_mode="border",
        align_corners=True,
    )[0]
    return np.asarray(crop.clamp(min=0).pow(view.exponent).numpy(), dtype=np.float32)


def shared_places(first: View, second: View, shape: Sequence[int], crop_size: Size3D) -> Floats:
    """Return the voxels of the first view that lie in the volume and in the second view too.

    Returns:
        Their places in the volume, in voxels ``(N, 3)``; those of views of `ViewRange.draw_pair` share the
        first view's middle at least.
    """
    places = first.places(crop_size).reshape(-1, 3)
    indices = second.indices(places, crop_size)
    is_inside = _is_within(places, shape) & _is_within(indices, crop_size)
    return places[is_inside] if is_inside.any() else first.centre[None]


def to_grid(indices: Floats, shape: Sequence[int]) -> Floats:
    """Return voxel indices ``(..., 3)`` as `torch.nn.functional.grid_sample` takes them: Z first, -1 to 1."""
    longest = np.maximum(np.array(shape) - 1, 1)
    return np.ascontiguousarray((2 * indices / longest - 1)[..., ::-1], dtype=np.float32)


def to_indices(grid: ArrayLike, shape: Sequence[int]) -> Floats:
    """Return the voxel indices ``(N, 3)`` of what `to_grid` made."""
    longest = np.maximum(np.array(shape) - 1, 1)
    return np.asarray((np.asarray(grid)[:, ::-1] + 1) / 2 * longest, dtype=np.float32)


def _is_within(indices: Floats, shape: Sequence[int]) -> NDArray[np.bool_]:
    return np.asarray(((indices >= 0) & (indices <= np.array(shape) - 1)).all(axis=-1))
