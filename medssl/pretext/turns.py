"""The 24 rotations of the cube, which turn a voxel grid without touching a single intensity."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations, product

import numpy as np
from scipy.spatial.transform import Rotation

SIDES = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
"""What the negative and the positive end of the axes X, Y and Z are called after reading (RAS)."""

SPACING_TOLERANCE = 0.05
"""Relative difference below which two spacings count as equal: finer than 5 % is lost in body size."""

THICK = 1.5
"""Voxels this many times as long as wide are not turned out of their plane: that would mix what was sampled
differently, and cut off what lies at the rim of a thin volume."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One signed axis permutation with determinant +1.

    Attributes:
        axes: Which axis of the input each output axis is.
        signs: +1, or -1 where that axis is walked backwards.
    """

    axes: tuple[int, int, int]
    signs: tuple[int, int, int]

    def matrix(self) -> np.ndarray:
        """Return the 3 x 3 matrix that maps input positions to output positions, about the centre."""
        matrix = np.zeros((3, 3), dtype=int)
        matrix[range(3), self.axes] = self.signs
        return matrix

    def inverse(self) -> "Turn":
        """Return the turn that undoes this one."""
        return _from_matrix(self.matrix().T)

    def then(self, following: "Turn") -> "Turn":
        """Return the one turn that equals this one followed by ``following``."""
        return _from_matrix(following.matrix() @ self.matrix())

    def orientation(self) -> str:
        """Return where the axes of a turned RAS volume point to in the patient, such as "RSP"."""
        return "".join(
            SIDES[axis][int(sign > 0)][0].upper() for axis, sign in zip(self.axes, self.signs, strict=True)
        )


def _from_matrix(matrix: np.ndarray) -> Turn:
    a, b, c = np.abs(matrix).argmax(axis=1).tolist()
    x, y, z = matrix.sum(axis=1).tolist()
    return Turn((a, b, c), (x, y, z))


def _all_turns() -> tuple[Turn, ...]:
    signed = (
        Turn((a, b, c), (x, y, z))
        for a, b, c in permutations(range(3))
        for x, y, z in product((1, -1), repeat=3)
    )
    return tuple(turn for turn in signed if np.linalg.det(turn.matrix()) > 0)


TURNS = _all_turns()
"""All 24, the identity first."""


def apply_turn(volume: np.ndarray, turn: Turn) -> np.ndarray:
    """Turn a volume; every voxel keeps its value.

    Args:
        volume: ``(C, X, Y, Z)``.
        turn: One of `TURNS`.

    Returns:
        A contiguous copy ``(C, X', Y', Z')`` whose sides are those of ``volume`` in the turn's order.
    """
    turned = volume.transpose(0, *(axis + 1 for axis in turn.axes))
    x, y, z = turn.signs
    return turned[:, ::x, ::y, ::z].copy()


def allowed_turns(
    crop_size: Sequence[int], spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)
) -> tuple[Turn, ...]:
    """Return the turns that map a voxel grid onto itself.

    Axes may change places only when they have the same number of voxels and the same spacing: otherwise the
    turned anatomy would be stretched, and the stretch alone would give the turn away.

    Args:
        crop_size: Voxels along X, Y and Z.
        spacing_mm: Distance of voxel centres along the same axes, equal within 5 % counts as equal.

    Returns:
        24 turns of a cube, 8 of a box with two equal axes, 4 of any other; the identity first.
    """
    ratio = {(a, b): abs(np.log(spacing_mm[a] / spacing_mm[b])) for a, b in combinations(range(3), 2)}
    alike = [
        pair
        for pair in sorted(ratio, key=lambda pair: ratio[pair])
        if ratio[pair] <= np.log1p(SPACING_TOLERANCE) and crop_size[pair[0]] == crop_size[pair[1]]
    ]
    if len(alike) == 2:  # a ~ b and b ~ c, but not a ~ c: only the closer pair makes a group
        alike = alike[:1]
    exchangeable = {(a, a) for a in range(3)} | set(alike) | {(b, a) for a, b in alike}
    return tuple(turn for turn in TURNS if exchangeable.issuperset(enumerate(turn.axes)))


def may_turn(axis: int, crop_size: Sequence[int], spacing_mm: Sequence[float]) -> bool:
    """Return whether turning a crop a little about an axis mixes two other axes that are alike."""
    one, other = (index for index in range(3) if index != axis)
    spacings = sorted([spacing_mm[one], spacing_mm[other]])
    lengths = sorted([crop_size[one] * spacing_mm[one], crop_size[other] * spacing_mm[other]])
    return spacings[1] <= THICK * spacings[0] and lengths[1] <= 2 * lengths[0]


def describe_turn(turn: Turn) -> str:
    """Say a turn in words, such as "90 degrees about the left-right axis, anterior to superior"."""
    rotation = Rotation.from_matrix(turn.matrix()).as_rotvec(degrees=True)
    degrees = round(float(np.linalg.norm(rotation)))
    if degrees == 0:
        return "not turned"
    axis = np.sign(np.round(rotation)).astype(int)
    if degrees == 180:  # half turns have no sense of direction, so one way to say each
        axis *= axis[np.flatnonzero(axis)[0]]
    return f"{degrees} degrees about the {_describe_axis(axis, has_direction=degrees == 90)}"


def _describe_axis(axis: np.ndarray, *, has_direction: bool) -> str:
    along = np.flatnonzero(axis).tolist()
    if len(along) > 1:
        return "-".join(SIDES[index][int(axis[index] > 0)] for index in along) + " diagonal"
    (index,) = along
    words = "-".join(SIDES[index]) + " axis"
    if has_direction:
        start, end = SIDES[(index + 1) % 3][1], SIDES[(index + 2) % 3][int(axis[index] > 0)]
        words += f", {start} to {end}"
    return words
