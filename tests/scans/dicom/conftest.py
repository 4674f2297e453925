"""DICOM series written slice by slice."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    generate_uid,
)

WriteSeries = Callable[..., list[Path]]

SERIES_UID = "1.2.3.4"
OBLIQUE = (0.96, 0.28, 0.0, -0.28, 0.96, 0.0)


def header(kind: str) -> FileDataset:
    """Return a header with what every file has."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = kind
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = SERIES_UID
    dataset.PatientID = "ID-OF-NOBODY"
    dataset.PatientName = "Nobody^Nemo"
    dataset.Modality = "CT"
    return dataset


def put_voxels(dataset: Dataset, voxels: NDArray) -> None:
    """Add stored values, ``(rows, columns)`` or ``(frames, rows, columns)``."""
    dataset.Rows, dataset.Columns = voxels.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.PixelData = voxels.astype(np.int16).tobytes()


@pytest.fixture
def stored(smooth_volume: NDArray[np.float32]) -> NDArray[np.int16]:
    """Stored values ``(slices, rows, columns)`` of a smooth volume."""
    return smooth_volume.transpose(2, 1, 0)[:8].astype(np.int16)


@pytest.fixture
def write_series(tmp_path: Path, stored: NDArray[np.int16]) -> WriteSeries:
    """Return a function that writes a series of eight slices, 2.5 mm apart, and returns its files."""

    def write(
        folder: str = "series",
        *,
        heights_mm: Sequence[float] | None = None,
        orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
        shift: Sequence[float] = (0, 0, 0),
        names: Sequence[str] | None = None,
        edit: Callable[[int, FileDataset], Any] = lambda index, dataset: None,
    ) -> list[Path]:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        heights = np.arange(len(stored)) * 2.5 if heights_mm is None else np.array(heights_mm)
        normal = np.cross(orientation[:3], orientation[3:])
        paths = []
        for index, height in enumerate(heights):
            dataset = header(CTImageStorage)
            put_voxels(dataset, stored[index % len(stored)])
            dataset.ImageOrientationPatient = list(orientation)
            position = np.array([-30.0, -40.0, 10.0]) + height * (normal + np.array(shift))
            dataset.ImagePositionPatient = [f"{value:.6g}" for value in position]
            dataset.PixelSpacing = [0.8, 0.7]
            dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1000 + 10 * index
            edit(index, dataset)
            path = tmp_path / folder / (names[index] if names else f"IM{(7 * index) % 11:04}.dcm")
            pydicom.dcmwrite(path, dataset)
            paths.append(path)
        return sorted(paths)

    return write


def compress(_: int, dataset: FileDataset) -> None:
    """Edit a slice into what looks compressed with JPEG-LS."""
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.PixelData = pydicom.encaps.encapsulate([dataset.PixelData])
    dataset["PixelData"].is_undefined_length = True


@pytest.fixture
def enhanced(tmp_path: Path, stored: NDArray[np.int16]) -> FileDataset:
    """An enhanced multi-frame image whose frames lie from the top downwards."""
    dataset = header(EnhancedMRImageStorage)
    put_voxels(dataset, stored[::-1])
    dataset.Modality = "MR"
    dataset.NumberOfFrames = len(stored)
    shared, measures, plane, scaling = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [0.8, 0.7]
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    scaling.RescaleSlope, scaling.RescaleIntercept = 2, -1000
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [plane]
    shared.PixelValueTransformationSequence = [scaling]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for index in range(len(stored)):
        place, frame = Dataset(), Dataset()
        place.ImagePositionPatient = [-30, -40, 10 + 2.5 * (len(stored) - 1 - index)]
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return dataset
