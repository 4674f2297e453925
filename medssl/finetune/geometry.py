"""Random changes of geometry, made alike to an image and its label."""

import math
import re
from collections.abc import Iterable, Sequence

from monai.transforms import Compose, RandAffined, RandFlipd, SpatialPadd

from medssl.config.finetune_schema import SpatialConfig
from medssl.pretext.turns import may_turn

Size3D = tuple[int, int, int]

AXES = ("x", "y", "z")

_SIDE = re.compile(r"(?:^|[^a-z])(?:left|right|l|r|lh|rh)(?:[^a-z]|$)", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def make_transform(
    keys: Sequence[str],
    *,
    crop_size: Size3D,
    spacing_mm: Sequence[float],
    spatial: SpatialConfig,
    class_names: Iterable[str] = (),
) -> Compose:
    """Return the transform from a window to a crop of exactly ``crop_size``.

    Args:
        keys: Of channel-first volumes; the first is the image, the others are interpolated by nearest voxel.
        crop_size: Voxels along X, Y and Z; what is shorter is padded with the border.
        spacing_mm: Of the volumes.
        spatial: How much is changed.
        class_names: Of which a name such as "left lung" rules out flips along x.
    """
    modes = ["bilinear", *["nearest"] * (len(keys) - 1)]
    radians = math.radians(spatial.rotate_degrees)
    return Compose(
        [
            SpatialPadd(keys, crop_size, mode="edge"),
            RandAffined(
                keys,
                prob=spatial.probability,
                rotate_range=[radians if may_turn(axis, crop_size, spacing_mm) else 0.0 for axis in range(3)],
                scale_range=[(-spatial.scale, spatial.scale)] * 3,
                mode=modes,
                padding_mode="border",
            ),
            *(
                RandFlipd(keys, prob=0.5, spatial_axis=AXES.index(axis))
                for axis in flip_axes(spatial, class_names)
            ),
        ]
    )


def flip_axes(spatial: SpatialConfig, class_names: Iterable[str]) -> tuple[str, ...]:
    """Return the axes that crops are flipped along: as set, or left-right where no class has a side."""
    if spatial.flip_axes != "auto":
        return spatial.flip_axes
    has_sides = any(_SIDE.search(_CAMEL.sub(" ", name)) for name in class_names)
    return () if has_sides else ("x",)
