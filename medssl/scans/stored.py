"""What every image format hands to `medssl.scans.read`."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class StoredImage(Protocol):
    """An opened image file, before anything about it was judged.

    Every method raises `ScanError` with a reason when the file cannot give what is asked.

    Attributes:
        shape: All stored axes, trailing ones of length one included.
        dtype: Stored type, before any slope and intercept.
        modality: "ct", "mr" or "other" where the file tells, else None.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the lengths of the stored axes."""

    @property
    def dtype(self) -> np.dtype:
        """Return the stored type."""

    @property
    def modality(self) -> str | None:
        """Return what the file tells."""

    def affine(self) -> NDArray[np.float64]:
        """Return the 4 x 4 matrix from the first three voxel indices to RAS millimetres."""

    def voxels(self) -> NDArray[np.float32]:
        """Return the intensities, slope and intercept applied, with the stored axes."""


MEAN = "mean"


@dataclass(frozen=True, slots=True)
class AtTimePoint:
    """One volume of a 4-D `StoredImage`.

    Attributes:
        image: ``(I, J, K, T)``.
        time_point: Its number, from "0", or `MEAN` for the mean over time.
    """

    image: StoredImage
    time_point: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the first three axes."""
        return self.image.shape[:3]

    @property
    def dtype(self) -> np.dtype:
        """Return the stored type."""
        return self.image.dtype

    @property
    def modality(self) -> str | None:
        """Return what the file tells."""
        return self.image.modality

    def affine(self) -> NDArray[np.float64]:
        """Return the affine, which is the same for all volumes."""
        return self.image.affine()

    def voxels(self) -> NDArray[np.float32]:
        """Return the intensities ``(I, J, K)``."""
        series = self.image.voxels().reshape(self.image.shape[:4], order="F")
        return series.mean(axis=3) if self.time_point == MEAN else series[..., int(self.time_point)]
