"""Read random windows of prepared scans."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medssl.scans.record import PreparedScan
from medssl.scans.store import open_voxels, widen

Size = tuple[int, int, int]

MAX_DRAWS = 5
"""How often a place is drawn before a nearly empty window is accepted."""

EMPTY_BELOW = 0.05
"""Intensity, in the stored [0, 1] range, below which a voxel is taken for background."""

MIN_FOREGROUND = 0.05
"""Share of voxels above that from which a window shows something."""

CACHE_LINE = 64
"""Bytes that a processor's cache holds or drops together."""


@dataclass(frozen=True, slots=True)
class Window:
    """A box of a prepared scan.

    Attributes:
        voxels: ``(1, X, Y, Z)``, in [0, 1], float16 as they are stored: moving half the bytes, crops are made
            faster. Whoever computes with them widens them first, see `medssl.scans.store.widen`. Their rows
            do not follow each other directly in memory.
        start: Index of its first voxel in the stored scan, along +R, +A, +S.
    """

    voxels: NDArray[np.float16]
    start: tuple[int, int, int]


def read_window(scan: PreparedScan, size: Size, rng: np.random.Generator) -> Window:
    """Read a window at a place drawn uniformly from those where it lies inside the scan.

    An axis along which the scan is shorter than the window is read whole, so the window is shorter there too.
    A nearly empty window is drawn again, up to four times, since there is nothing to learn from air.

    Args:
        scan: Prepared scan; only the chunks that the window touches are read.
        size: Voxels along +R, +A, +S.
        rng: Decides the place; the same state gives the same window.
    """
    stored = open_voxels(scan.store_path)
    clipped = np.minimum(size, scan.shape)
    last_start = np.array(scan.shape) - clipped
    draws = MAX_DRAWS if last_start.any() else 1
    for _ in range(draws):
        start = rng.integers(0, last_start, endpoint=True)
        box = tuple(slice(first, first + length) for first, length in zip(start, clipped, strict=True))
        voxels = _copy_spread(stored[box])
        if _shows_something(voxels):
            break
    x, y, z = (int(first) for first in start)
    return Window(voxels=voxels[np.newaxis], start=(x, y, z))


def read_box(scan: PreparedScan, start: Size, size: Size) -> NDArray[np.float32]:
    """Read a box of a prepared scan, clipped to the scan.

    Args:
        scan: Prepared scan; only the chunks that the box touches are read.
        start: Index of the first voxel along +R, +A, +S.
        size: Voxels along the same axes.

    Returns:
        ``(1, X, Y, Z)``, float32 in [0, 1].
    """
    box = tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))
    return widen(open_voxels(scan.store_path)[box])[np.newaxis]


def _copy_spread(voxels: NDArray[np.float16]) -> NDArray[np.float16]:
    """Return a copy whose rows lie a cache line apart, which is turned twice as fast.

    Voxels that follow each other along X or Y are a power of two of bytes apart in usual crops, so they would
    push each other out of the processor's cache when read in that order.
    """
    x, y, z = voxels.shape
    spread = np.empty((x, y + 1, z + CACHE_LINE // voxels.itemsize), voxels.dtype)[:, :y, :z]
    spread[...] = voxels
    return spread


def _shows_something(voxels: NDArray[np.float16]) -> bool:
    """Judge by every fourth voxel an axis, and by its bits, which as whole numbers are in the same order."""
    sparse = voxels[::4, ::4, ::4].view(np.int16)
    is_bright = sparse > np.float16(EMPTY_BELOW).view(np.int16)
    return bool(np.count_nonzero(is_bright) >= MIN_FOREGROUND * sparse.size)
