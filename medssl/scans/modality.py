"""What kind of scan a volume is, and how its intensities become the [0, 1] range a network sees."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl.config.schema import DataConfig
from medssl.errors import ScanError
from medssl.scans.check_voxels import random_voxels
from medssl.scans.record import IntensityRecipe

_NAMES = {
    "ct": {"ct", "cta", "cbct", "ldct"},
    "mr": {"mr", "mri", "t1w", "t2w", "pdw", "flair", "mprage", "dwi", "bold", "swi", "adc"},
    "other": {"pet", "spect"},
}

BLANK_SHARE = 0.25
"""Share of voxels in one of 256 grey levels from which that level counts as blank background.

A level is wide enough for what resampling leaves of a constant; noisy air spreads over many levels.
"""

_HU_DARKEST = (-4096, -200)
_HU_1ST_PERCENTILE_MAX = -200
_HU_OF_AIR_AND_TISSUE = (-1100, 500)


def guess_modality(volume: NDArray[np.float32], dtype: str, path: Path, *, stated: str | None = None) -> str:
    """Guess a scan's modality from its intensities, helped by its header or file name.

    CT is told by Hounsfield units, stored as integers: air far below zero, and most voxels between air and
    bone, unlike MR phase images, which spread evenly over a signed range. A name can only support that,
    because a CT on any other scale must not be given a Hounsfield window; and a name of another modality,
    such as a BIDS suffix ``_T1w`` or ``_pet``, overrules it. What has hardly any negative values counts as
    MR; its recipe is the same as that of "other".

    Args:
        volume: ``(X, Y, Z)``, as read.
        dtype: The stored type's name.
        path: Where it was read from.
        stated: What the header says, which counts as a name does; None where it says nothing.

    Returns:
        "ct", "mr" or "other".
    """
    named = stated or _modality_in_name(path)
    voxels = random_voxels(volume)
    if named in (None, "ct") and _has_hounsfield_range(voxels):
        is_integer = np.dtype(dtype).kind in "iu" or bool(np.all(voxels == np.round(voxels)))
        if is_integer or named == "ct":
            return "ct"
    if named == "mr":
        return "mr"
    low, high = np.percentile(voxels, (1, 99))
    return "mr" if named is None and low >= -0.1 * high else "other"


def plan_intensity(volume: NDArray[np.float32], modality: str, *, data: DataConfig) -> IntensityRecipe:
    """Choose the intensities that become 0 and 1.

    For CT they are the same Hounsfield units in all scans. Otherwise units are arbitrary, so they are
    percentiles of this scan, without its blank background if it has one (see `BLANK_SHARE`).

    Args:
        volume: ``(X, Y, Z)``, as read, finite.
        modality: What `guess_modality` said; ``data.modality`` overrules it unless it is "auto".
        data: Settings of which ``modality``, ``ct_window_hu`` and ``percentiles`` are used.

    Raises:
        ScanError: If the whole scan would become one value.
    """
    if data.modality != "auto":
        modality = data.modality
    voxels = random_voxels(volume)
    if modality == "ct":
        lower, upper = data.ct_window_hu
    else:
        lower, upper = np.percentile(_without_background(voxels), data.percentiles)
    if upper <= lower or voxels.max() <= lower or voxels.min() >= upper:
        raise ScanError(
            f"Its intensities do not vary between {lower:g} and {upper:g}, the range given to {modality}."
        )
    return IntensityRecipe(modality=modality, lower=float(lower), upper=float(upper))


def normalise(volume: NDArray[np.float32], recipe: IntensityRecipe) -> NDArray[np.float32]:
    """Apply a recipe.

    Returns:
        A new volume of the same shape, float32 in [0, 1].
    """
    scaled = (volume - np.float32(recipe.lower)) / np.float32(recipe.upper - recipe.lower)
    return np.clip(scaled, 0, 1, out=scaled)


def _modality_in_name(path: Path) -> str | None:
    words = set(re.split(r"[^a-z0-9]+", path.name.lower()))
    return next((modality for modality, names in _NAMES.items() if words & names), None)


def _without_background(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    dark, bright = np.percentile(voxels, (0.5, 99))
    counts, edges = np.histogram(voxels, bins=256, range=(dark, bright))
    fullest = int(counts.argmax())
    if counts[fullest] < BLANK_SHARE * voxels.size:
        return voxels
    foreground = voxels[(voxels < edges[fullest]) | (voxels > edges[fullest + 1])]
    return foreground if foreground.size else voxels


def _has_hounsfield_range(voxels: NDArray[np.float32]) -> bool:
    air, bone = _HU_OF_AIR_AND_TISSUE
    return bool(
        _HU_DARKEST[0] <= voxels.min() <= _HU_DARKEST[1]
        and np.percentile(voxels, 1) <= _HU_1ST_PERCENTILE_MAX
        and np.mean((voxels >= air) & (voxels <= bone)) > 0.5
    )
