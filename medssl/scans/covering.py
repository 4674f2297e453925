"""Crops of one size that together cover a scan."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medssl.scans.crop import Size, read_box
from medssl.scans.record import PreparedScan

Fill = Literal["mean", "edge"]


@dataclass(frozen=True, slots=True)
class CoveringCrop:
    """One of the crops.

    Attributes:
        voxels: ``(C, *size)``, float32 in [0, 1], one channel an image; padded where the scan is shorter.
        box: Which voxels of the scan it shows.
        inside: Which of its own voxels those are; the others are padding.
    """

    voxels: NDArray[np.float32]
    box: tuple[slice, ...]
    inside: tuple[slice, ...]


def covering_crops(channels: Sequence[PreparedScan], size: Size, *, fill: Fill) -> Iterator[CoveringCrop]:
    """Yield crops on the coarsest even grid that covers a scan; only the one at hand is in memory.

    Args:
        channels: Images on one grid.
        size: Voxels of a crop along +R, +A, +S.
        fill: What surrounds the content of a crop along axes that are shorter, on both sides alike: its own
            ``mean``, as in pretraining, or the nearest voxels of its ``edge``, as in fine-tuning.
    """
    sides = [min(length, side) for length, side in zip(channels[0].shape, size, strict=True)]
    before = [(side - length) // 2 for side, length in zip(size, sides, strict=True)]
    after = [side - length - gap for side, length, gap in zip(size, sides, before, strict=True)]
    width = [(0, 0), *zip(before, after, strict=True)]
    starts = [_even_starts(length, side) for length, side in zip(channels[0].shape, size, strict=True)]
    for x, y, z in itertools.product(*starts):
        voxels = np.concatenate([read_box(channel, (x, y, z), size) for channel in channels])
        yield CoveringCrop(_pad(voxels, width, fill), _box((x, y, z), sides), _box(before, sides))


def _even_starts(length: int, side: int) -> list[int]:
    count = max(1, -(-length // side))
    return [int(start) for start in np.linspace(0, max(length - side, 0), count).round()]


def _box(start: Sequence[int], sides: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + side) for first, side in zip(start, sides, strict=True))


def _pad(voxels: NDArray[np.float32], width: list[tuple[int, int]], fill: Fill) -> NDArray[np.float32]:
    if fill == "edge":
        return np.pad(voxels, width, mode="edge")
    return np.stack([np.pad(channel, width[1:], constant_values=channel.mean()) for channel in voxels])
