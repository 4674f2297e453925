"""Features that tell a pretext task's answer, if at all, without looking at anatomy.

Each turns one crop or one pair of patches into a few numbers; `medssl.pretext.probe` says how far they get.
"""

from itertools import product

import numpy as np

FLAT_TOLERANCE = 1e-6
"""Range of intensities, in units of [0, 1], below which a plane holds nothing."""


def padding_geometry(volume: np.ndarray) -> np.ndarray:
    """Return how far constant planes reach into a volume from its faces.

    A plane counts only when the whole of it is constant, so dark anatomy at a face is not taken for padding.

    Args:
        volume: ``(X, Y, Z)`` in [0, 1].

    Returns:
        ``(6,)``: for X, Y and Z the share of the axis that lies in constant planes at either end, then for
        the same axes the share at the lower end less that at the upper.
    """
    totals, differences = [], []
    for axis in range(3):
        planes = np.moveaxis(volume, axis, 0).reshape(volume.shape[axis], -1)
        is_filled = np.ptp(planes, axis=1) > FLAT_TOLERANCE
        if is_filled.any():
            lower, upper = is_filled.argmax(), is_filled[::-1].argmax()
        else:
            lower = upper = len(planes) // 2
        totals.append((lower + upper) / len(planes))
        differences.append((lower - upper) / len(planes))
    return np.array(totals + differences)


def block_means(volume: np.ndarray) -> np.ndarray:
    """Return the mean intensities ``(27,)`` of a 3 x 3 x 3 division of a volume ``(X, Y, Z)``."""
    cuts = [np.linspace(0, size, 4).astype(int)[:-1] for size in volume.shape]
    sums = volume
    for axis, starts in enumerate(cuts):
        sums = np.add.reduceat(sums, starts, axis=axis, dtype=np.float64)
    widths = [np.diff([*starts, size]) for starts, size in zip(cuts, volume.shape, strict=True)]
    return (sums / np.einsum("x,y,z->xyz", *widths)).ravel()


def gradient_energies(volume: np.ndarray) -> np.ndarray:
    """Return the shares ``(3,)`` of squared intensity steps that lie along X, Y and Z of ``(X, Y, Z)``."""
    energies = np.array([np.mean(np.diff(volume, axis=axis) ** 2) for axis in range(3)])
    return energies / max(energies.sum(), np.finfo(float).tiny)


def border_continuity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how well one patch would go on in another, for each of the 26 ways they could touch.

    Where the patches share a cut through anatomy or a bias field, the borders that touch look most alike.

    Args:
        first: Patch ``(X, Y, Z)``.
        second: Patch ``(X, Y, Z)``.

    Returns:
        ``(32,)``: mean absolute difference of the touching faces, edges or corners for all 26 directions
        from ``first`` to ``second``, then the correlation of the touching planes for the 6 faces.
    """
    differences, correlations = [], []
    for direction in product((-1, 0, 1), repeat=3):
        if direction == (0, 0, 0):
            continue
        near, far = first[_border(direction, 1)], second[_border(direction, -1)]
        differences.append(np.mean(np.abs(near - far)))
        if np.count_nonzero(direction) == 1:
            correlations.append(_correlation(near, far))
    return np.array(differences + correlations)


def _border(direction: tuple[int, ...], side: int) -> tuple[int | slice, ...]:
    """Index the last (side 1) or first (side -1) layer seen along ``direction``."""
    return tuple(slice(None) if step == 0 else -1 if step == side else 0 for step in direction)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt(np.sum(first**2) * np.sum(second**2)))
    return float(np.sum(first * second)) / scale if scale > 0 else 0.0
