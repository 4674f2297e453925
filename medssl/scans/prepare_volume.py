"""What preparing does to the voxels of one scan."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl.config.schema import DataConfig
from medssl.scans.check_voxels import check_voxels
from medssl.scans.foreground import foreground_box
from medssl.scans.modality import guess_modality, normalise, plan_intensity
from medssl.scans.record import Bounds, IntensityRecipe, ScanHeader
from medssl.scans.resample import resample

Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class PreparedVolume:
    """What became of one volume.

    Attributes:
        voxels: ``(X, Y, Z)`` in RAS, float32 in [0, 1].
        recipe: The intensity recipe that was used.
        foreground: The box of the volume that was kept, before resampling.
    """

    voxels: NDArray[np.float32]
    recipe: IntensityRecipe
    foreground: Bounds


def prepare_volume(
    volume: NDArray[np.float32],
    affine: NDArray[np.float64],
    *,
    header: ScanHeader,
    path: Path,
    spacing_mm: Spacing,
    data: DataConfig,
    foreground: Bounds | None = None,
) -> PreparedVolume:
    """Check, crop to the foreground, resample and normalise one volume.

    Args:
        volume: ``(X, Y, Z)`` in RAS, intensities as in the file.
        affine: 4 x 4, from its voxel indices to millimetres.
        header: Of the file, whose stored type and modality are hints to the modality.
        path: Of the file, whose name is another hint.
        spacing_mm: The spacing to resample to.
        data: Intensity settings and whether to crop.
        foreground: The box to keep, where it is known already, as from another channel of the same scan.

    Raises:
        ScanError: If the voxels cannot be those of a scan.
    """
    check_voxels(volume)
    modality: str = data.modality
    if modality == "auto":
        modality = guess_modality(volume, header.dtype, path, stated=header.modality)
    if modality == "ct":
        # Scanners fill what lies outside the field of view with values far below air, which would pass for
        # background, with air as the foreground, and make resampling ring at its edge.
        volume = np.clip(volume, *data.ct_window_hu)
    bounds = foreground or _bounds(volume, is_cropped=data.crop_to_foreground)
    volume = volume[tuple(slice(*sides) for sides in bounds)]
    # Before resampling, which rings: the background would no longer be the smallest value.
    recipe = plan_intensity(volume, modality, data=data)
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    voxels = normalise(resample(volume, (x, y, z), spacing_mm), recipe)
    return PreparedVolume(voxels, recipe, bounds)


def _bounds(volume: NDArray[np.float32], *, is_cropped: bool) -> Bounds:
    box = foreground_box(volume) if is_cropped else tuple(slice(0, length) for length in volume.shape)
    x, y, z = ((side.start, side.stop) for side in box)
    return x, y, z
