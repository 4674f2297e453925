"""Image files of every supported format, read into RAS volumes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl.errors import ScanError
from medssl.scans.dicom.image import DicomImage
from medssl.scans.dicom.places import is_archive, is_dicom, may_be_dicom
from medssl.scans.geometry import describe, to_ras
from medssl.scans.nifti import NiftiFile
from medssl.scans.other_formats import ItkImage, NibabelImage
from medssl.scans.record import ScanHeader
from medssl.scans.stored import AtTimePoint, StoredImage

READERS: dict[str, Callable[..., StoredImage]] = {
    **dict.fromkeys((".nii.gz", ".nii"), NiftiFile),
    **dict.fromkeys((".mgz", ".mgh", ".mnc", ".img", ".img.gz", ".head"), NibabelImage),
    **dict.fromkeys((".nrrd", ".nhdr", ".mha", ".mhd"), ItkImage),
}
"""Which reader opens which file name ending; to add a format is to add a line.

Of a format in two files, it is the one that names the scan. DICOM files have any name, so they are not here.
"""

IMAGE_SUFFIXES = tuple(READERS)

MAX_REPLACED_SHARE = 0.05
"""Largest share of voxels without a value that are taken for background; more means a broken scan."""

LARGEST_VALUE = 1e30
"""Beyond it a voxel has no value, as NaN: tools mark missing ones with the largest number they can store."""


def image_suffix(name: str) -> str | None:
    """Return the ending of a file name that marks a scan, in lower case, or None for any other file."""
    name = name.lower()
    return next((suffix for suffix in READERS if name.endswith(suffix)), None)


def read_header(path: Path) -> ScanHeader:
    """Read a scan's header and check everything that needs no voxels.

    Raises:
        ScanError: With the reason why the scan cannot be used.
    """
    return describe(open_image(path))


def read_volume(
    path: Path, *, time_point: str | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Read a scan into RAS axes, with slope and intercept applied.

    Voxels without a value, with which many tools fill the background, become the smallest value there is
    where they are at most `MAX_REPLACED_SHARE` of the scan; otherwise they stay for `check_voxels` to refuse.

    Args:
        path: The file.
        time_point: Which volume of a 4-D file, see `ScanRecord`.

    Returns:
        The volume ``(X, Y, Z)`` as contiguous float32, and the 4 x 4 affine from its voxel indices to RAS
        millimetres.

    Raises:
        ScanError: With the reason why the scan cannot be read.
    """
    image = open_image(path)
    if time_point is not None:
        image = AtTimePoint(image, time_point)
    header = describe(image)
    volume, affine = to_ras(image.voxels().reshape(header.shape, order="F"), np.array(header.affine))
    _fill_missing(volume)
    return volume, affine


def open_image(path: Path, *, is_label_map: bool = False) -> StoredImage:
    """Open an image file with the reader of its format.

    Args:
        path: The file.
        is_label_map: Whether a label map is expected, which a scan must not be.

    Raises:
        ScanError: If there is no reader for it, or the reader refuses it.
    """
    suffix = image_suffix(path.name)
    if suffix in READERS:
        return READERS[suffix](path, is_label_map=is_label_map)
    if is_series(path):
        return DicomImage(path, is_label_map=is_label_map)
    raise ScanError(f"It is not DICOM, and its name ends in none of {', '.join(IMAGE_SUFFIXES)}.")


def is_series(path: Path) -> bool:
    """Tell whether a path stands for a DICOM series: a file of it, or the folder or archive it is in."""
    if image_suffix(path.name):
        return False
    return path.is_dir() or is_archive(path) or (may_be_dicom(path.name) and is_dicom(path))


def has_value(volume: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which voxels are neither NaN nor infinite nor beyond `LARGEST_VALUE`."""
    return np.abs(volume) < LARGEST_VALUE


def _fill_missing(volume: NDArray[np.float32]) -> None:
    """Replace voxels without a value, in place, when they are few."""
    valid = has_value(volume)
    missing = volume.size - np.count_nonzero(valid)
    if 0 < missing <= MAX_REPLACED_SHARE * volume.size:
        volume[~valid] = volume[valid].min()
