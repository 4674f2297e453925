"""Image files of every supported format, read into RAS volumes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl.errors import ScanError
from medssl.scans.geometry import describe, to_ras
from medssl.scans.nifti import NiftiFile
from medssl.scans.record import ScanHeader
from medssl.scans.stored import StoredImage

READERS: dict[str, Callable[..., StoredImage]] = {".nii.gz": NiftiFile, ".nii": NiftiFile}
"""Which reader opens which file name ending; to add a format is to add a line."""

IMAGE_SUFFIXES = tuple(READERS)

UNREAD_FORMATS = {
    ".dcm": "DICOM",
    ".dicom": "DICOM",
    ".ima": "DICOM",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".mgz": "FreeSurfer",
    ".mgh": "FreeSurfer",
    ".mnc": "MINC",
    ".img": "Analyze or NIfTI pair",
    ".img.gz": "Analyze or NIfTI pair",
    ".head": "AFNI",
}
"""Endings of scans that no reader opens yet. Of a format in two files, the one that names the scan."""

MAX_REPLACED_SHARE = 0.05
"""Largest share of voxels without a value that are taken for background; more means a broken scan."""

LARGEST_VALUE = 1e30
"""Beyond it a voxel has no value, as NaN: tools mark missing ones with the largest number they can store."""


def image_suffix(name: str) -> str | None:
    """Return the ending of a file name that marks a scan, in lower case, or None for any other file."""
    name = name.lower()
    return next((suffix for suffix in (*READERS, *UNREAD_FORMATS) if name.endswith(suffix)), None)


def unread_reason(suffix: str) -> str:
    """Return why files that end in ``suffix``, a key of `UNREAD_FORMATS`, are left out."""
    return f"{UNREAD_FORMATS[suffix]} ({suffix}) is not read yet; convert it to .nii.gz."


def read_header(path: Path) -> ScanHeader:
    """Read a scan's header and check everything that needs no voxels.

    Raises:
        ScanError: With the reason why the scan cannot be used.
    """
    return describe(open_image(path))


def read_volume(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Read a scan into RAS axes, with slope and intercept applied.

    Voxels without a value, with which many tools fill the background, become the smallest value there is
    where they are at most `MAX_REPLACED_SHARE` of the scan; otherwise they stay for `check_voxels` to refuse.

    Returns:
        The volume ``(X, Y, Z)`` as contiguous float32, and the 4 x 4 affine from its voxel indices to RAS
        millimetres.

    Raises:
        ScanError: With the reason why the scan cannot be read.
    """
    image = open_image(path)
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
    if suffix in UNREAD_FORMATS:
        raise ScanError(unread_reason(suffix))
    raise ScanError(f"Its name ends in none of {', '.join(IMAGE_SUFFIXES)}.")


def has_value(volume: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which voxels are neither NaN nor infinite nor beyond `LARGEST_VALUE`."""
    return np.abs(volume) < LARGEST_VALUE


def _fill_missing(volume: NDArray[np.float32]) -> None:
    """Replace voxels without a value, in place, when they are few."""
    valid = has_value(volume)
    missing = volume.size - np.count_nonzero(valid)
    if 0 < missing <= MAX_REPLACED_SHARE * volume.size:
        volume[~valid] = volume[valid].min()
