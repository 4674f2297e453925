"""Pairs of patches that lie beside each other: directions, room, and sizes that suit the scans."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product

import numpy as np

from medssl.errors import ConfigError
from medssl.pretext.task import TaskContext
from medssl.pretext.turns import SIDES

Size = tuple[int, int, int]
Direction = tuple[int, int, int]


@dataclass(frozen=True)
class PairShape:
    """How large two patches are and how far they keep apart.

    Attributes:
        patch_size: Voxels of a patch along X, Y and Z.
        gap: Fewest voxels between the patches along each axis, where it separates them.
        jitter: Most voxels that are added to the gap, and most by which the patches are offset to either side
            along axes that do not separate them; less where a scan has no room for it.
        axes: Axes that may separate them.
    """

    patch_size: Size
    gap: Size
    jitter: Size
    axes: tuple[int, ...] = (0, 1, 2)

    @classmethod
    def of(
        cls,
        patch_size: Iterable[int],
        *,
        gap: int | Sequence[int] | None = None,
        jitter: int | Sequence[int] | None = None,
        axes: Iterable[int] = (0, 1, 2),
    ) -> "PairShape":
        """Return patches with a gap and jitter as given, for all axes or for each, or as suits where None.

        The gap is then half a patch, as in Doersch et al. (ICCV 2015), and the jitter a third. A fixed gap
        would do for small patches only: with four voxels, matching borders alone find 25 % of 6 faces for
        patches of 12 voxels, 38 % for 24 and 40 % for 32; with half a patch 20, 29 and 35 % (MNI152 template
        at 1 mm, chance 17 %).
        """
        sides = _three(patch_size)
        return cls(
            sides,
            gap=_part(sides, 2) if gap is None else _three(np.broadcast_to(gap, 3).tolist()),
            jitter=_part(sides, 3) if jitter is None else _three(np.broadcast_to(jitter, 3).tolist()),
            axes=tuple(sorted(set(axes))),
        )

    @cached_property
    def directions(self) -> tuple[Direction, ...]:
        """Where the second patch may lie as seen from the first: 26, 8 or 2 directions for 3, 2 or 1 axes."""
        steps = [(-1, 0, 1) if axis in self.axes else (0,) for axis in range(3)]
        return tuple((x, y, z) for x, y, z in product(*steps) if (x, y, z) != (0, 0, 0))

    @property
    def smallest_window(self) -> Size:
        """Fewest voxels along X, Y and Z that hold a pair in each direction."""
        return _three(
            2 * patch + gap if axis in self.axes else patch
            for axis, (patch, gap) in enumerate(zip(self.patch_size, self.gap, strict=True))
        )

    @property
    def window_size(self) -> Size:
        """Voxels along X, Y and Z that hold a pair with all its jitter."""
        return _three(a + b for a, b in zip(self.smallest_window, self.jitter, strict=True))

    def has_room(self, shape: Sequence[int]) -> bool:
        """Return whether a volume of ``shape`` (X, Y, Z) holds a pair in each direction."""
        return all(size >= fewest for size, fewest in zip(shape, self.smallest_window, strict=True))


def plan_pairs(
    context: TaskContext,
    *,
    patch_size: Size | None = None,
    gap: int | None = None,
    jitter: int | None = None,
    axes: Sequence[int] | None = None,
) -> PairShape:
    """Choose what is left open so that the pairs suit the encoder and most scans.

    Args:
        context: Scan shapes, crop size and the encoder's smallest input.
        patch_size: Voxels of a patch; None for the largest even size that is at most half a crop and of which
            nine scans of ten hold a pair, but at least the encoder's smallest input.
        gap: See `PairShape.of`.
        jitter: See `PairShape.of`.
        axes: Which axes separate the patches; None for those along which most scans hold a pair.

    Raises:
        ConfigError: The patches are too small for the encoder, or too large for most scans.
    """
    smallest = context.smallest_input if patch_size is None else patch_size
    if any(side < fewest for side, fewest in zip(smallest, context.smallest_input, strict=True)):
        raise ConfigError(
            f"tasks.position.patch_size {_by(smallest)} is too small for the encoder, which needs "
            f"{_by(context.smallest_input)} voxels; take larger patches or set it to auto."
        )
    if axes is None:
        needed = PairShape.of(smallest, gap=gap, jitter=jitter).smallest_window
        axes = np.flatnonzero(np.median(context.scan_shapes, axis=0) >= needed).tolist()
    shaped = partial(PairShape.of, gap=gap, jitter=jitter, axes=axes)
    pair = shaped(patch_size or _fitting_patch(context, shaped))
    has_room = [pair.has_room(shape) for shape in context.scan_shapes]
    if not axes or np.mean(has_room) < 0.5:
        raise ConfigError(
            f"tasks.position finds no room for two patches of {_by(smallest)} voxels and a gap in most "
            "scans; set a smaller tasks.position.patch_size or gap, take an encoder with a smaller stride, "
            "or leave the task out."
        )
    return pair


def describe_direction(direction: Sequence[int]) -> str:
    """Say a direction in anatomical words, such as "left-superior"."""
    return "-".join(SIDES[axis][int(step > 0)] for axis, step in enumerate(direction) if step != 0)


def _fitting_patch(context: TaskContext, shaped: Callable[[Size], PairShape]) -> Size:
    """Return for each axis the largest even side that fits, or the encoder's smallest input."""
    nine_of_ten = np.percentile(context.scan_shapes, 10, axis=0, method="lower")
    patch = list(context.smallest_input)
    for axis, smallest in enumerate(context.smallest_input):
        separates = axis in shaped(context.smallest_input).axes
        most = context.crop_size[axis] // (2 if separates else 1)
        for side in range(most // 2 * 2, smallest, -2):
            if shaped((side, side, side)).window_size[axis] <= nine_of_ten[axis]:
                patch[axis] = side
                break
    return _three(patch)


def _part(sides: Size, divisor: int) -> Size:
    return _three(math.ceil(side / divisor) for side in sides)


def _by(size: Sequence[int]) -> str:
    return " x ".join(str(voxels) for voxels in size)


def _three(values: Iterable[int]) -> Size:
    x, y, z = values
    return x, y, z
