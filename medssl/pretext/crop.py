"""The one crop that the tasks which work in place share."""

from typing import Any

import numpy as np
from monai.config import KeysCollection

from medssl.pretext.task import PretextTransform
from medssl.pretext.turns import allowed_turns
from medssl.scans.store import widen

Box = tuple[slice, ...]


class CropOrPadd(PretextTransform):
    """Crop at random to ``crop_size``, and pad where the window is smaller so that padding tells nothing.

    Plain padding gives rotations away: the axis that was padded is the one the scan is thin along, and one
    more voxel of padding behind than before marks an end. Here the content that is kept

    - has the same extent along all axes that a turn may exchange,
    - lies exactly in the middle, losing one voxel where that is needed,
    - is surrounded by its own mean.

    The volume is left untouched under ``window``.
    """

    takes_float16 = True

    def __init__(
        self,
        keys: KeysCollection,
        crop_size: tuple[int, int, int],
        *,
        spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> None:
        """Settle which axes share their extent.

        Args:
            keys: Keys of channel-first volumes ``(C, X, Y, Z)``.
            crop_size: Voxels of the result along X, Y and Z.
            spacing_mm: Distance of voxel centres along the same axes; axes of equal crop size and spacing are
                exchangeable, see `medssl.pretext.turns.allowed_turns`.
        """
        super().__init__(keys)
        self.crop_size = crop_size
        turns = allowed_turns(crop_size, spacing_mm)
        self._exchangeable = [sorted({turn.axes[axis] for turn in turns}) for axis in range(3)]

    def draw(self, shape: tuple[int, ...]) -> Box:
        """Draw which part of the volume is kept."""
        extents = self._extents(shape)
        starts = [self.R.randint(size - extent + 1) for size, extent in zip(shape, extents, strict=True)]
        return tuple(slice(start, start + extent) for start, extent in zip(starts, extents, strict=True))

    def apply(self, volume: np.ndarray, parameters: Box, *, key: str) -> dict[str, Any]:
        """Return the crop ``(C, *crop_size)`` under ``key``, a part of ``window``, the volume itself."""
        content = volume[:, *parameters]
        if content.shape[1:] == self.crop_size:
            return {key: content, "window": volume}
        mean = widen(content).mean(axis=(1, 2, 3), keepdims=True)
        crop = np.broadcast_to(mean, (len(volume), *self.crop_size)).copy()
        before = [
            (size - extent) // 2 for size, extent in zip(self.crop_size, content.shape[1:], strict=True)
        ]
        middle = [slice(gap, gap + extent) for gap, extent in zip(before, content.shape[1:], strict=True)]
        crop[:, *middle] = content
        return {key: crop, "window": volume}

    def _extents(self, shape: tuple[int, ...]) -> list[int]:
        fitting = [min(size, crop) for size, crop in zip(shape, self.crop_size, strict=True)]
        shared = [min(fitting[other] for other in self._exchangeable[axis]) for axis in range(3)]
        gaps = [crop - extent for crop, extent in zip(self.crop_size, shared, strict=True)]
        return [max(extent - gap % 2, 1) for extent, gap in zip(shared, gaps, strict=True)]
