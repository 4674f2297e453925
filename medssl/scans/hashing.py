"""Which scans are the same."""

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medssl.errors import ScanError

_blake2b = partial(hashlib.blake2b, digest_size=16)


def content_hash(path: Path) -> str:
    """Return the BLAKE2b hash of a file's bytes: 32 hexadecimal digits.

    Raises:
        ScanError: If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, _blake2b).hexdigest()
    except OSError as error:
        raise ScanError(f"The file cannot be read: {error.strerror}.") from error


def voxel_hash(volume: NDArray[np.float32]) -> str:
    """Return the BLAKE2b hash of a volume's shape and voxels.

    After `read_volume` it finds the same image in files that differ in compression, data type or axis order.

    Args:
        volume: ``(X, Y, Z)``.
    """
    digest = _blake2b()
    digest.update(str(volume.shape).encode())
    digest.update(np.ascontiguousarray(volume).data)
    return digest.hexdigest()
