"""What the header of a DICOM file says of each slice in it.

Of all tags only those are read that are listed here. The patient's identifier is one of them: it tells which
series show the same person, and is never given out.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.pixels import get_decoder
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from medssl.errors import ScanError
from medssl.scans.dicom.places import open_file

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.logger.disabled = True  # it quotes what headers hold
warnings.filterwarnings("ignore", module=r"pydicom\.")  # these too

TAGS = [
    "TransferSyntaxUID", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "PatientID", "Modality",
    "ImageType", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "PixelRepresentation",
    "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope",
    "RescaleIntercept", "EchoTime", "TemporalPositionIdentifier", "AcquisitionNumber", "AcquisitionTime",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip

SEPARATING = (
    "ImageType", "EchoTime", "EffectiveEchoTime", "TemporalPositionIdentifier", "TemporalPositionIndex",
    "AcquisitionNumber", "AcquisitionTime",
)  # fmt: skip
"""What may differ between the volumes of one series: echoes, magnitude and phase, time points."""

_PATIENT_ID = Tag("PatientID")
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


@dataclass(frozen=True, slots=True)
class Slice:
    """One picture in a DICOM file.

    Attributes:
        name: Of its file, in the folder.
        frame: Its place in that file, from 0.
        uid: Of the file's content; two files with the same are copies.
        series_uid: Of the series.
        patient_id: Whom it shows; to compare, never to tell.
        modality: Such as "CT".
        shape: Rows and columns.
        dtype: Stored NumPy type name.
        orientation: Direction along a row, then along a column, in LPS.
        position_mm: Centre of the first voxel, in LPS.
        spacing_mm: Between rows, then between columns.
        slope: Factor from stored values to intensities.
        intercept: What is added then.
        separating: The values of `SEPARATING`.
    """

    name: str
    frame: int
    uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    patient_id: str = field(repr=False)
    modality: str
    shape: tuple[int, int]
    dtype: str
    orientation: tuple[float, ...]
    position_mm: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    slope: float
    intercept: float
    separating: tuple[str, ...]


class NoSliceError(ScanError):
    """A DICOM file without a slice of a volume.

    Attributes:
        series_uid: Of the series it belongs to.
        is_lasting: Whether the header says so, rather than this machine at this moment.
    """

    def __init__(self, reason: str, *, series_uid: str = "", is_lasting: bool = False) -> None:
        super().__init__(reason)
        self.series_uid = series_uid
        self.is_lasting = is_lasting


class _NoDecoderError(ScanError):
    """The compression of a file is not read here."""


def read_slices(path: Path) -> list[Slice]:
    """Read the header of a DICOM file: one slice, or the frames of an enhanced multi-frame image.

    Raises:
        NoSliceError: If it holds no slice of a volume in the body, or is damaged; the reason quotes nothing.
    """
    try:
        with open_file(path) as file:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=TAGS, force=True)
    except ScanError as error:
        raise NoSliceError(str(error)) from error
    except Exception as error:  # pydicom raises many kinds on damaged files, whose texts quote the header
        raise NoSliceError(_damaged(error)) from error
    series_uid = str(header.get("SeriesInstanceUID", ""))
    try:
        _refuse_other_than_volumes(header)
        return list(_slices(header, path.name))
    except ScanError as error:
        is_lasting = not isinstance(error, _NoDecoderError)
        raise NoSliceError(str(error), series_uid=series_uid, is_lasting=is_lasting) from error
    except Exception as error:
        raise NoSliceError(_damaged(error), series_uid=series_uid) from error


def read_patient_id(path: Path) -> str:
    """Return whom a DICOM file shows, as `Slice` has it, from the first few tags of its header.

    Raises:
        ScanError: If it cannot be read.
    """
    try:
        with open_file(path) as file:
            header = read_partial(
                cast(BinaryIO, file), _is_beyond_patient_id, force=True, specific_tags=[_PATIENT_ID]
            )
    except ScanError:
        raise
    except Exception as error:
        raise ScanError(_damaged(error)) from error
    return str(header.get("PatientID") or "")


def _is_beyond_patient_id(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag > _PATIENT_ID


def _damaged(error: Exception) -> str:
    return f"The DICOM header is damaged or incomplete ({type(error).__name__})."


def _refuse_other_than_volumes(header: Dataset) -> None:
    kinds = {str(kind).upper() for kind in _values(header.get("ImageType"))}
    if header.get("SOPClassUID") == _SEGMENTATION:
        raise ScanError("It is a DICOM segmentation, a label map.")
    if not header.get("Rows") or not header.get("Columns"):
        raise ScanError("It holds no image, as a report or a plan does not.")
    if "LOCALIZER" in kinds:
        raise ScanError("It is a localizer, by which other series were planned.")
    if "MOSAIC" in kinds:
        raise ScanError("It is a mosaic of slices in one picture; convert it with dcm2niix.")
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise ScanError("Its voxels are colours (RGB), not intensities.")
    _refuse_unreadable_compression(UID(header.file_meta.get("TransferSyntaxUID", "")))


def _refuse_unreadable_compression(syntax: UID) -> None:
    if syntax and syntax.is_compressed:
        try:
            is_available = get_decoder(syntax).is_available
        except NotImplementedError as error:
            raise _NoDecoderError(f"Its compression ({syntax.name}) is not read.") from error
        if not is_available:
            raise _NoDecoderError(
                f"Its voxels are compressed ({syntax.name}): install what reads them with "
                "pip install 'medssl[dicom]'."
            )


def _slices(header: Dataset, name: str) -> Iterator[Slice]:
    if "PerFrameFunctionalGroupsSequence" not in header:
        if int(header.get("NumberOfFrames") or 1) > 1:
            raise ScanError("It is a film of frames whose place in the body is not told.")
        yield _slice(header, [header], name=name, frame=0)
        return
    shared = list(header.get("SharedFunctionalGroupsSequence") or ())
    for frame, own in enumerate(header.PerFrameFunctionalGroupsSequence):
        groups = [own, *shared]
        yield _slice(header, [*_items(groups), header], name=name, frame=frame)


def _items(groups: list[Dataset]) -> list[Dataset]:
    """Return what lies in the sequences of functional groups, such as PlanePositionSequence."""
    return [item for group in groups for element in group if element.VR == "SQ" for item in element.value[:1]]


def _slice(header: Dataset, places: list[Dataset], *, name: str, frame: int) -> Slice:
    position_mm = _numbers(_first(places, "ImagePositionPatient"))
    orientation = _numbers(_first(places, "ImageOrientationPatient"))
    spacing_mm = _numbers(_first(places, "PixelSpacing"))
    if len(position_mm) != 3 or len(orientation) != 6:
        raise ScanError("It does not tell where in the body it lies, as X-ray and ultrasound do not.")
    if len(spacing_mm) != 2:
        raise ScanError("It does not tell the size of its voxels.")
    sign = "int" if int(header.get("PixelRepresentation", 0)) else "uint"
    return Slice(
        name=name,
        frame=frame,
        uid=str(header.get("SOPInstanceUID") or name),
        series_uid=str(header.get("SeriesInstanceUID", "")),
        patient_id=str(header.get("PatientID") or ""),
        modality=str(header.get("Modality", "")),
        shape=(int(header.Rows), int(header.Columns)),
        dtype=f"{sign}{int(header.BitsAllocated)}",
        orientation=orientation,
        position_mm=position_mm,
        spacing_mm=spacing_mm,
        slope=_number(_first(places, "RescaleSlope"), default=1.0),
        intercept=_number(_first(places, "RescaleIntercept"), default=0.0),
        separating=tuple(str(_first(places, tag)) for tag in SEPARATING),
    )


def _first(places: list[Dataset], tag: str) -> Any:
    return next((place.get(tag) for place in places if place.get(tag) is not None), None)


def _values(value: Any) -> list[Any]:
    if value is None or isinstance(value, str):
        return [value] if value else []
    return list(value)


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(float(each) for each in _values(value))


def _number(value: Any, *, default: float) -> float:
    return default if value in (None, "") else float(value)
