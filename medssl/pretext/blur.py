"""Gaussian blur as products with small matrices: on a CPU a fraction of the time of convolutions."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

Border = Literal["constant", "nearest"]
"""What lies around a volume, as SciPy calls it: zeros, or its outermost voxels again."""


def blur(volumes: Tensor, sigma: Sequence[float], *, border: Border, truncate: float = 4.0) -> Tensor:
    """Blur volumes as `scipy.ndimage.gaussian_filter` does, in full precision also under autocast.

    Args:
        volumes: Float32 ``(..., X, Y, Z)``.
        sigma: Standard deviation in voxels along X, Y and Z.
        border: What lies around.
        truncate: Radius of the window, in standard deviations.

    Returns:
        The same shape, on the same device.
    """
    x, y, z = (
        _matrix(size, float(width), border, truncate).to(volumes.device)
        for size, width in zip(volumes.shape[-3:], sigma, strict=True)
    )
    with torch.autocast(volumes.device.type, enabled=False):
        along_y_and_z = y @ (volumes @ z.T)
        return (x @ along_y_and_z.flatten(-2)).reshape(volumes.shape)


@lru_cache(maxsize=64)
def _matrix(size: int, width: float, border: Border, truncate: float) -> Tensor:
    """Return what happens to each unit impulse along an axis."""
    impulses = np.eye(size, dtype=np.float32)
    return torch.from_numpy(gaussian_filter1d(impulses, width, axis=0, mode=border, truncate=truncate))
