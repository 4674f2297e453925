"""A DICOM series as one stored image."""

import hashlib
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from medssl.errors import ScanError
from medssl.scans.dicom.places import open_file
from medssl.scans.dicom.series import series_folder, series_of
from medssl.scans.geometry import LPS_TO_RAS


class DicomImage:
    """A DICOM series as a `StoredImage`: columns, rows, slices.

    Args:
        path: A file of the series, or a folder or archive that holds one series only.
        is_label_map: Whether it is opened as one; DICOM segmentations are refused all the same.

    Raises:
        ScanError: With the reason why the series cannot be read as one volume.
    """

    def __init__(self, path: Path, *, is_label_map: bool = False) -> None:
        self._slices = series_of(path).slices
        self._folder = series_folder(path)
        first = self._slices[0]
        self.shape: tuple[int, ...] = (first.shape[1], first.shape[0], len(self._slices))
        self.dtype = np.dtype(first.dtype)
        self.modality = {"CT": "ct", "MR": "mr", "PT": "other", "NM": "other"}.get(first.modality)

    def affine(self) -> NDArray[np.float64]:
        """Return the affine of voxel (column, row, slice), by DICOM PS3.3 C.7.6.2.1.1."""
        first, last = self._slices[0], self._slices[-1]
        between_rows_mm, between_columns_mm = first.spacing_mm
        affine = np.eye(4)
        affine[:3, 0] = np.array(first.orientation[:3]) * between_columns_mm
        affine[:3, 1] = np.array(first.orientation[3:]) * between_rows_mm
        apart_mm = np.subtract(last.position_mm, first.position_mm)
        affine[:3, 2] = apart_mm / (len(self._slices) - 1)
        affine[:3, 3] = first.position_mm
        return LPS_TO_RAS @ affine

    def voxels(self) -> NDArray[np.float32]:
        """Return the intensities, slope and intercept of each slice applied."""
        columns, rows, _ = self.shape
        stacked = np.empty((len(self._slices), rows, columns), np.float32)
        name = ""
        frames: NDArray[np.generic] = np.empty(0)
        for index, each in enumerate(self._slices):
            if each.name != name:
                name, frames = each.name, self._frames(each.name)
            if each.frame >= len(frames) or frames.shape[1:] != (rows, columns):
                raise ScanError("A file of the series holds fewer voxels than its header promises.")
            stacked[index] = frames[each.frame] * np.float32(each.slope) + np.float32(each.intercept)
        return stacked.T

    def content_hash(self) -> str:
        """Return the BLAKE2b hash of the bytes of its files, in their order: 32 hexadecimal digits."""
        digest = hashlib.blake2b(digest_size=16)
        for name in dict.fromkeys(each.name for each in self._slices):
            with open_file(self._folder / name) as file:
                digest.update(hashlib.blake2b(file.read()).digest())
        return digest.hexdigest()

    def _frames(self, name: str) -> NDArray[np.generic]:
        """Return the stored values of a file, ``(frames, rows, columns)``."""
        try:
            with open_file(self._folder / name) as file:
                stored = pydicom.dcmread(file, force=True).pixel_array
        except (ScanError, MemoryError):
            raise
        except Exception as error:  # each decoder raises its own kinds
            raise ScanError(
                f"The voxels of {name} are damaged or end early ({type(error).__name__}); "
                "copy or download the series again."
            ) from error
        return stored if stored.ndim == 3 else stored[None]
