"""What preparing does to the voxels of one scan."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl.config.schema import DataConfig
from medssl.scans.check import check_voxels
from medssl.scans.foreground import foreground_box
from medssl.scans.modality import guess_modality, normalise, plan_intensity
from medssl.scans.record import IntensityRecipe
from medssl.scans.resample import resample

Spacing = tuple[float, float, float]


def prepare_volume(
    volume: NDArray[np.float32],
    affine: NDArray[np.float64],
    *,
    dtype: str,
    path: Path,
    spacing_mm: Spacing,
    data: DataConfig,
) -> tuple[NDArray[np.float32], IntensityRecipe]:
    """Check, crop to the foreground, resample and normalise one volume.

    Args:
        volume: ``(X, Y, Z)`` in RAS, intensities as in the file.
        affine: 4 x 4, from its voxel indices to millimetres.
        dtype: Stored type name of the file, a hint to the modality.
        path: Of the file, whose name is another hint.
        spacing_mm: The spacing to resample to.
        data: Intensity settings and whether to crop.

    Returns:
        The volume in [0, 1], and the intensity recipe that was used.

    Raises:
        ScanError: If the voxels cannot be those of a scan.
    """
    check_voxels(volume)
    modality = guess_modality(volume, dtype, path) if data.modality == "auto" else data.modality
    if modality == "ct":
        # Scanners fill what lies outside the field of view with values far below air, which would pass for
        # background, with air as the foreground, and make resampling ring at its edge.
        volume = np.clip(volume, *data.ct_window_hu)
    if data.crop_to_foreground:
        volume = volume[foreground_box(volume)]
    # Before resampling, which rings: the background would no longer be the smallest value.
    recipe = plan_intensity(volume, modality, data=data)
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return normalise(resample(volume, (x, y, z), spacing_mm), recipe), recipe
