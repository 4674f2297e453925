"""NIfTI-1 and NIfTI-2 files: parsed by nibabel, with every doubt about a header told as a reason.

nibabel's loader repairs damaged headers and writes to its log. Here a header is parsed without repairs, so a
guess never reaches training and nothing appears on the screen.
"""

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import BinaryIO, cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import array_from_file
from numpy.typing import NDArray

from medssl.errors import ScanError

_GZIP_MAGIC = b"\x1f\x8b"
GZIP_LARGEST_RATIO = 1032
"""How far deflate can compress at most."""

_UNIT_IN_MM = {1: 1000.0, 3: 0.001}  # codes of the metre and the micrometre; every other code counts as mm
_GEOMETRY_FIELDS = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z", "xyzt_units",
)  # fmt: skip
_INTENT_LABEL = 1002
_INTENTS_STATISTICAL = range(2, 25)


class NiftiFile:
    """A NIfTI file as a `StoredImage`.

    Whether it is compressed is told from its first bytes, not from its name.

    Args:
        path: The file.
        is_label_map: Whether it is opened as one, whatever its header marks it as.

    Raises:
        ScanError: If it is missing, unreadable, not NIfTI, shorter than its header says, or against
            expectation marked as a label map or a statistical map.
    """

    modality = None

    def __init__(self, path: Path, *, is_label_map: bool = False) -> None:
        self._path = path
        with _failures_as_reasons(), _opened(path) as (file, largest_bytes):
            self._header = _parse_header(file.read(nib.Nifti2Header.sizeof_hdr))
        self.shape = _shape(self._header)
        self.dtype = _dtype(self._header)
        if not is_label_map:
            _refuse_by_intent(int(self._header["intent_code"]))
        self._refuse_shorter_than_promised(largest_bytes)

    def affine(self) -> NDArray[np.float64]:
        """Return the sform, or the qform where there is no sform, in millimetres."""
        if not np.all(self._header["pixdim"][1:4] > 0):
            raise ScanError("The header gives a voxel size that is zero or negative.")
        affine = self._sform_or_qform()
        affine[:3] *= _UNIT_IN_MM.get(int(self._header["xyzt_units"]) % 8, 1.0)
        return affine

    def voxels(self) -> NDArray[np.float32]:
        """Return the intensities, slope and intercept applied; what float32 cannot hold becomes infinite."""
        with _failures_as_reasons(), _opened(self._path) as (file, _), np.errstate(all="ignore"):
            slope, intercept = self._header.get_slope_inter()
            stored = array_from_file(self.shape, self.dtype, file, self._header.get_data_offset())
            while file.read(1 << 20):  # gzip compares its checksum only at the end
                pass
            if slope is not None:
                stored = stored * np.float32(slope) + np.float32(intercept)
            return stored.astype(np.float32, copy=False)

    def blank_header(self) -> nib.Nifti1Header:
        """Return a header with the geometry of this one, bit for bit, and nothing else of it.

        So what is written with it lies on the same grid and carries no name or remark over.
        """
        blank = type(self._header)(endianness=self._header.endianness)
        blank["pixdim"][:4] = self._header["pixdim"][:4]
        for field in _GEOMETRY_FIELDS:
            blank[field] = self._header[field]
        return blank

    def _sform_or_qform(self) -> NDArray[np.float64]:
        if self._header["sform_code"] > 0:
            return self._header.get_sform()
        if self._header["qform_code"] <= 0:
            raise ScanError(
                "The header gives no orientation (qform and sform codes are both 0), "
                "so left and right cannot be told apart."
            )
        if self._header["pixdim"][0] == 0:
            self._header["pixdim"][0] = 1  # as the standard asks
        try:
            return self._header.get_qform()
        except ValueError as error:
            raise ScanError("The header is damaged: its qform is not a rotation.") from error

    def _refuse_shorter_than_promised(self, largest_bytes: int) -> None:
        offset = float(self._header["vox_offset"])
        if not self._header.sizeof_hdr <= offset < np.inf:
            raise ScanError("The header is damaged: it does not say where the voxel data begin.")
        promised = int(offset) + prod(self.shape) * self.dtype.itemsize
        if largest_bytes < promised:
            raise ScanError(
                f"The file is too short for the {promised:,} bytes that its header promises; "
                "copy or download it again."
            )


def _parse_header(block: bytes) -> nib.Nifti1Header:
    if not block:
        raise ScanError("The file is empty.")
    for header_class in (nib.Nifti1Header, nib.Nifti2Header):
        if header_class.may_contain_header(block):
            return header_class(block[: header_class.sizeof_hdr], check=False)
    raise ScanError("The content is not NIfTI, although the name says so.")


def _shape(header: nib.Nifti1Header) -> tuple[int, ...]:
    try:
        shape = tuple(int(length) for length in header.get_data_shape())
    except (HeaderDataError, ValueError):
        shape = ()
    if not 1 <= len(shape) <= 7 or min(shape) < 1:
        raise ScanError("The header is damaged: it gives no valid number of voxels.")
    return shape


def _dtype(header: nib.Nifti1Header) -> np.dtype:
    try:
        dtype = header.get_data_dtype()
    except KeyError:
        dtype = np.dtype("V0")
    if dtype.itemsize == 0:
        raise ScanError(f"The header gives an unknown data type (code {int(header['datatype'])}).")
    return dtype


def _refuse_by_intent(code: int) -> None:
    if code == _INTENT_LABEL:
        raise ScanError("The header marks it as a label map.")
    if code in _INTENTS_STATISTICAL:
        raise ScanError("The header marks it as a statistical map.")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Yield the uncompressed content, and the most bytes it can have."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.peek(2)[:2] != _GZIP_MAGIC:
            yield file, size
            return
        with gzip.open(file) as decompressed:
            yield cast(BinaryIO, decompressed), size * GZIP_LARGEST_RATIO


@contextmanager
def _failures_as_reasons() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ScanError("The file does not exist, or is a link whose target was not downloaded.") from error
    except HeaderDataError as error:
        raise ScanError("The header is damaged: its intensity scaling is not a number.") from error
    except MemoryError as error:
        raise ScanError("It does not fit into memory.") from error
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno:
            raise ScanError(f"The file cannot be opened: {error.strerror}.") from error
        raise ScanError("The data end early or are damaged; copy or download the file again.") from error
