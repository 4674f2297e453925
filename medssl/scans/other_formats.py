"""Formats beside NIfTI and DICOM: what nibabel reads, and what SimpleITK reads where it is installed."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.tripwire import TripWireError
from numpy.typing import NDArray

from medssl.errors import ScanError
from medssl.scans.geometry import LPS_TO_RAS
from medssl.scans.nifti import GZIP_LARGEST_RATIO

_screen = threading.Lock()


class NibabelImage:
    """A FreeSurfer, MINC, Analyze or NIfTI pair file as a `StoredImage`.

    Args:
        path: The file; of a pair, the ``.img``.
        is_label_map: Whether it is opened as one; these formats do not mark them.

    Raises:
        ScanError: If nibabel cannot read it, or it does not tell left from right.
    """

    modality = None

    def __init__(self, path: Path, *, is_label_map: bool = False) -> None:
        with _failures_as_reasons(), _silenced():
            self._image: Any = nib.load(path)
            self.shape: tuple[int, ...] = tuple(int(length) for length in self._image.shape)
            self.dtype = np.dtype(self._image.get_data_dtype())
            self._refuse_more_than_the_files_can_hold()
        self._refuse_without_orientation(path)

    def _refuse_more_than_the_files_can_hold(self) -> None:
        """Refuse what no compression could, before memory is taken for what a damaged header promises."""
        files = [Path(holder.filename) for holder in self._image.file_map.values() if holder.filename]
        stored_bytes = sum(file.stat().st_size for file in files if file.exists())
        if prod(self.shape) * self.dtype.itemsize > stored_bytes * GZIP_LARGEST_RATIO:
            raise ScanError("The file is too short for what its header promises; copy or download it again.")

    def _refuse_without_orientation(self, path: Path) -> None:
        """Refuse what tells left from right neither in its header nor, as SPM has it, in a file beside it."""
        if isinstance(self._image, nib.Nifti1Pair):
            is_told = bool(self._image.header["sform_code"] > 0 or self._image.header["qform_code"] > 0)
        else:
            is_told = not isinstance(self._image, nib.AnalyzeImage) or path.with_suffix(".mat").exists()
        if not is_told:
            raise ScanError(
                "Its header does not tell left from right, as in Analyze format; convert it to .nii.gz with "
                "the orientation that you know it has."
            )

    def affine(self) -> NDArray[np.float64]:
        """Return the affine that nibabel makes of the header."""
        return np.array(self._image.affine, np.float64)

    def voxels(self) -> NDArray[np.float32]:
        """Return the intensities, scaling applied."""
        with _failures_as_reasons(), np.errstate(all="ignore"):
            return np.asarray(self._image.dataobj, np.float32)


class ItkImage:
    """An NRRD or MetaImage file as a `StoredImage`, read by SimpleITK.

    Args:
        path: The file; of two, the header.
        is_label_map: Whether it is opened as one; these formats do not mark them.

    Raises:
        ScanError: If SimpleITK is not installed or cannot read it.
    """

    modality = None

    def __init__(self, path: Path, *, is_label_map: bool = False) -> None:
        if find_spec("SimpleITK") is None:
            raise ScanError(f"{path.suffix} files need SimpleITK: pip install 'medssl[itk]'.")
        import SimpleITK

        SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
        self._reader = SimpleITK.ImageFileReader()
        self._reader.SetFileName(str(path))
        with _failures_as_reasons(), _silenced():
            self._reader.ReadImageInformation()
        self.shape: tuple[int, ...] = tuple(self._reader.GetSize())
        self.dtype = _stored_type(SimpleITK.GetPixelIDValueAsString(self._reader.GetPixelIDValue()))

    def affine(self) -> NDArray[np.float64]:
        """Return origin, spacing and direction as one matrix; ITK's axes are LPS."""
        dimensions = min(3, self._reader.GetDimension())
        direction = np.reshape(self._reader.GetDirection(), (self._reader.GetDimension(),) * 2)
        affine = np.eye(4)
        spacing_mm = self._reader.GetSpacing()[:dimensions]
        affine[:dimensions, :dimensions] = direction[:dimensions, :dimensions] * spacing_mm
        affine[:dimensions, 3] = self._reader.GetOrigin()[:dimensions]
        return LPS_TO_RAS @ affine

    def voxels(self) -> NDArray[np.float32]:
        """Return the intensities."""
        import SimpleITK

        with _failures_as_reasons(), _silenced():
            return SimpleITK.GetArrayFromImage(self._reader.Execute()).T.astype(np.float32)


def _stored_type(name: str) -> np.dtype:
    """Return the type that SimpleITK calls, for example, "16-bit unsigned integer"."""
    match = re.fullmatch(r"(|vector of |complex of )(\d+)-bit (signed integer|unsigned integer|float)", name)
    if match is None:
        raise ScanError(f"The header gives an unknown data type ({name}).")
    wrapped, bits, kind = match.groups()
    if wrapped == "vector of ":
        return np.dtype((np.void, 3))
    if wrapped == "complex of ":
        return np.dtype(f"complex{2 * int(bits)}")
    return np.dtype({"signed integer": "int", "unsigned integer": "uint", "float": "float"}[kind] + bits)


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep off the screen what readers say of headers, ITK past every setting of its own."""
    with _screen, Path(os.devnull).open("w") as nowhere:
        screen = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(screen, 2)
            os.close(screen)


@contextmanager
def _failures_as_reasons() -> Iterator[None]:
    """Turn what readers raise on a damaged file, many kinds with long texts, into one sentence."""
    try:
        yield
    except ScanError:
        raise
    except MemoryError as error:
        raise ScanError("It does not fit into memory.") from error
    except (ImportError, TripWireError) as error:
        raise ScanError(
            "Reading it needs another package, as MINC-2 needs h5py: pip install 'medssl[minc]'."
        ) from error
    except FileNotFoundError as error:
        raise ScanError("The file, or the other file of the pair, does not exist.") from error
    except Exception as error:
        raise ScanError(
            f"The file is damaged, ends early or is not what its name says ({type(error).__name__})."
        ) from error
