"""What the files behind a scan hold: one image file, a header with its voxels, or all of a DICOM series."""

import glob
import hashlib
import re
from pathlib import Path

import numpy as np

from medssl.scans.dicom.image import DicomImage
from medssl.scans.dicom.series import folder_signature, series_folder
from medssl.scans.file_memory import Signature, file_signature
from medssl.scans.hashing import content_hash
from medssl.scans.read import image_suffix, is_series, open_image

IN_TWO_FILES = (".img", ".img.gz", ".mhd", ".nhdr", ".head")
"""Endings of scans whose header and voxels lie in files of their own."""

_HEADER_BYTES = 1 << 20
_LONGEST_NAME = 255


def source_signature(path: Path) -> Signature:
    """Return two numbers that change when the files of a scan, or others beside a DICOM series, change.

    Raises:
        OSError: If they are not there.
        ScanError: If they cannot be reached.
    """
    if is_series(path):
        return folder_signature(series_folder(path))
    if image_suffix(path.name) not in IN_TWO_FILES:
        return file_signature(path)
    beside = {path, *path.parent.glob(f"{glob.escape(path.name.partition('.')[0])}.*"), *_named_in(path)}
    signatures = [file_signature(file) for file in beside]
    return sum(size for size, _ in signatures), sum(time for _, time in signatures)


def source_hash(path: Path) -> str:
    """Return the BLAKE2b hash of the files of a scan: 32 hexadecimal digits.

    Of a scan in two files, it is that of what they say: headers of different scans can be the same.

    Raises:
        ScanError: If they cannot be read.
    """
    if is_series(path):
        return DicomImage(path).content_hash()
    if image_suffix(path.name) not in IN_TWO_FILES:
        return content_hash(path)
    image = open_image(path, is_label_map=True)
    digest = hashlib.blake2b(repr((image.shape, image.dtype.name)).encode(), digest_size=16)
    digest.update(image.affine().tobytes())
    digest.update(np.ascontiguousarray(image.voxels()).tobytes())
    return digest.hexdigest()


def _named_in(header: Path) -> list[Path]:
    """Return the files that a header in text names for its voxels, such as ``ElementDataFile = scan.raw``."""
    if header.suffix.lower() not in (".mhd", ".nhdr"):
        return []
    with header.open("rb") as text:
        lines = text.read(_HEADER_BYTES).decode("utf-8", errors="replace").splitlines()
    names = {re.split("[=:]", line)[-1].strip() for line in lines} - {"", "."}
    files = [header.parent / name for name in names if len(name) <= _LONGEST_NAME]
    return [file for file in files if file.is_file()]
