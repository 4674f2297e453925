"""What every image format hands to `medssl.scans.read`."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class StoredImage(Protocol):
    """An opened image file, before anything about it was judged.

    Every method raises `ScanError` with a reason when the file cannot give what is asked.

    Attributes:
        shape: All stored axes, trailing ones of length one included.
        dtype: Stored type, before any slope and intercept.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    def affine(self) -> NDArray[np.float64]:
        """Return the 4 x 4 matrix from the first three voxel indices to RAS millimetres."""

    def voxels(self) -> NDArray[np.float32]:
        """Return the intensities, slope and intercept applied, with the stored axes."""
