"""Pairs of patches that lie beside each other: directions, room, and sizes that suit the scans."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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
        gap: Fewest voxels between the patches along axes that separate them.
        jitter: Most voxels that are added to the gap, and most by which the patches are offset to either side
            along axes that do not separate them; less where a scan has no room for it.
        axes: Axes that may separate them.
    """

    patch_size: Size
    gap: int
    jitter: int
    axes: tuple[int, ...] = (0, 1, 2)

    @cached_property
    def directions(self) -> tuple[Direction, ...]:
        """Where the second patch may lie as seen from the first: 26, 8 or 2 directions for 3, 2 or 1 axes."""
        steps = [(-1, 0, 1) if axis in self.axes else (0,) for axis in range(3)]
        return tuple((x, y, z) for x, y, z in product(*steps) if (x, y, z) != (0, 0, 0))

    def has_room(self, shape: Sequence[int]) -> bool:
        """Return whether a volume of ``shape`` (X, Y, Z) holds such a pair in each direction."""
        return all(
            size >= (2 * patch + self.gap if axis in self.axes else patch)
            for axis, (size, patch) in enumerate(zip(shape, self.patch_size, strict=True))
        )

    def window_size(self) -> Size:
        """Return the voxels along X, Y and Z that hold a pair with all its jitter."""
        x, y, z = (
            patch + self.jitter + (patch + self.gap if axis in self.axes else 0)
            for axis, patch in enumerate(self.patch_size)
        )
        return x, y, z


def plan_pairs(
    context: TaskContext,
    *,
    patch_size: Size | None = None,
    gap: int,
    jitter: int,
    axes: Sequence[int] | None = None,
) -> PairShape:
    """Choose what is left open so that the pairs suit the encoder and most scans.

    Args:
        context: Scan shapes, crop size and the encoder's smallest input.
        patch_size: Voxels of a patch; None for the largest even size that is at most half a crop and of which
            nine scans of ten hold a pair, but at least the encoder's smallest input.
        gap: See `PairShape`.
        jitter: See `PairShape`.
        axes: Which axes separate the patches; None for those along which most scans hold a pair.

    Raises:
        ConfigError: The patches are too small for the encoder, or too large for most scans.
    """
    smallest = np.array(context.smallest_input if patch_size is None else patch_size)
    if np.any(smallest < context.smallest_input):
        raise ConfigError(
            f"tasks.position.patch_size {_by(smallest)} is too small for the encoder, which needs "
            f"{_by(context.smallest_input)} voxels; take larger patches or set it to auto."
        )
    shapes = np.array(context.scan_shapes)
    if axes is None:
        is_wide = np.median(shapes, axis=0) >= 2 * smallest + gap
        axes = np.flatnonzero(is_wide).tolist()
    pair = PairShape(
        patch_size or _fitting_patch(context, gap=gap, jitter=jitter, axes=axes),
        gap=gap,
        jitter=jitter,
        axes=tuple(sorted(set(axes))),
    )
    holding = sum(pair.has_room(shape) for shape in context.scan_shapes)
    if not axes or 2 * holding < len(shapes):
        raise ConfigError(
            f"tasks.position finds no room for two patches of {_by(smallest)} voxels with a gap of {gap} in "
            "most scans; set a smaller tasks.position.patch_size or gap, take an encoder with a smaller "
            "stride, or leave the task out."
        )
    return pair


def describe_direction(direction: Sequence[int]) -> str:
    """Say a direction in anatomical words, such as "left-superior"."""
    return "-".join(SIDES[axis][int(step > 0)] for axis, step in enumerate(direction) if step != 0)


def _fitting_patch(context: TaskContext, *, gap: int, jitter: int, axes: Sequence[int]) -> Size:
    nine_of_ten = np.percentile(context.scan_shapes, 10, axis=0, method="lower")
    crop = np.array(context.crop_size)
    separated = np.minimum(crop // 2, (nine_of_ten - gap - jitter) // 2) // 2 * 2
    beside = np.minimum(crop, nine_of_ten - jitter)
    patch = np.where(np.isin(range(3), axes), separated, beside)
    x, y, z = np.maximum(patch, context.smallest_input).tolist()
    return x, y, z


def _by(size: Sequence[int] | np.ndarray) -> str:
    return " x ".join(str(voxels) for voxels in size)
