"""Label maps: read against the image that they belong to, and written onto the grid of an input."""

import gzip
from contextlib import nullcontext
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medssl.atomic import atomic_path
from medssl.errors import ScanError
from medssl.scans.geometry import describe, refuse_other_grid, to_ras
from medssl.scans.nifti import NiftiFile
from medssl.scans.read import open_image
from medssl.scans.record import ScanHeader

LARGEST_LABEL = 255

ROUNDING = 1e-3
"""How far a stored value may be from a whole number, as slope and intercept make it."""


def read_label_map(path: Path, *, like: ScanHeader) -> NDArray[np.uint8]:
    """Read a label map into RAS axes.

    Args:
        path: An image file of any type that holds whole numbers.
        like: Header of the image it belongs to; both may store their axes in different orders.

    Returns:
        ``(X, Y, Z)``, contiguous.

    Raises:
        ScanError: If the file cannot be read, lies on another grid, or holds values that are not whole
            numbers from 0 to 255.
    """
    image = open_image(path, is_label_map=True)
    header = describe(image)
    refuse_other_grid(header, like, name="its image")
    values = image.voxels().reshape(header.shape, order="F")
    labels, _ = to_ras(_whole_numbers(values), np.array(header.affine))
    return labels


def write_label_map(path: Path, labels: NDArray[np.uint8], *, like: Path) -> None:
    """Write a label map on the grid of another file: same shape, affine, form codes and units.

    Nothing else of that file's header is carried over: no name, no remark, no intensity scaling.

    Args:
        path: Ends in ``.nii.gz`` or ``.nii``; whole or not there.
        labels: ``(I, J, K)``, the axes as ``like`` stores them.
        like: An image file or a DICOM series.

    Raises:
        ScanError: If the header of ``like`` cannot be read any more.
    """
    _write(path, labels, like=like)


def write_probabilities(path: Path, probabilities: NDArray[np.floating], *, like: Path) -> None:
    """Write class probabilities as a 4-D image of float32, on the grid of another file.

    Args:
        path: Ends in ``.nii.gz`` or ``.nii``; whole or not there.
        probabilities: ``(C, I, J, K)``, the axes as ``like`` stores them; classes become the fourth axis.
        like: An image file or a DICOM series.

    Raises:
        ScanError: If the header of ``like`` cannot be read any more.
    """
    _write(path, np.moveaxis(probabilities, 0, -1).astype(np.float32, copy=False), like=like)


def _whole_numbers(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    with np.errstate(invalid="ignore"):  # infinite minus infinite
        whole = np.rint(values)
        is_whole = np.abs(values - whole) <= ROUNDING
    if not is_whole.all():
        example = values[~is_whole][0]
        raise ScanError(
            f"It holds values that are not whole numbers, such as {example:g}; store one number a class."
        )
    if whole.min() < 0 or whole.max() > LARGEST_LABEL:
        raise ScanError(
            f"It holds values from {whole.min():.0f} to {whole.max():.0f}; "
            f"number the classes from 0 to at most {LARGEST_LABEL}."
        )
    return whole.astype(np.uint8)


def _blank_header(like: Path) -> nib.Nifti1Header:
    """Return a header with the geometry of a file and nothing else of it."""
    image = open_image(like, is_label_map=True)
    if isinstance(image, NiftiFile):
        return image.blank_header()
    header = nib.Nifti1Header()
    header.set_xyzt_units("mm")
    header.set_sform(image.affine(), code="scanner")
    header.set_qform(image.affine(), code="scanner")
    return header


def _write(path: Path, voxels: NDArray[np.generic], *, like: Path) -> None:
    header = _blank_header(like)
    header.set_data_dtype(voxels.dtype)
    image_class = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = image_class(voxels, None, header)  # without an affine, nibabel leaves that of the header alone
    is_compressed = path.suffix == ".gz"
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) if is_compressed else nullcontext(file) as stream,
    ):
        image.to_stream(stream)
