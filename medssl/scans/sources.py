"""What the files behind a scan hold: one image file, or all those of a DICOM series."""

from pathlib import Path

from medssl.scans.dicom.image import DicomImage
from medssl.scans.dicom.series import folder_signature, series_folder
from medssl.scans.file_memory import Signature, file_signature
from medssl.scans.hashing import content_hash
from medssl.scans.read import is_series


def source_signature(path: Path) -> Signature:
    """Return two numbers that change when the files of a scan, or others beside a DICOM series, change.

    Raises:
        OSError: If they are not there.
        ScanError: If they cannot be reached.
    """
    if not is_series(path):
        return file_signature(path)
    return folder_signature(series_folder(path))


def source_hash(path: Path) -> str:
    """Return the BLAKE2b hash of the files of a scan: 32 hexadecimal digits.

    Raises:
        ScanError: If they cannot be read.
    """
    return DicomImage(path).content_hash() if is_series(path) else content_hash(path)
