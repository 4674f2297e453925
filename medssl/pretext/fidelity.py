"""How close a rebuilt volume is to the true one, where it was hidden.

Intensities are in [0, 1], so the data range of PSNR and SSIM is 1.
"""

import torch
from torch import Tensor

from medssl.pretext.blur import blur

SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
"""Gaussian window of 11 voxels a side, as in Wang et al. 2004."""

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2

SMALLEST_SQUARED_ERROR = 1e-10
"""Keeps PSNR at 100 dB where the error vanishes."""


def hidden_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average over hidden voxels.

    Args:
        values: ``(B, C, X, Y, Z)``.
        mask: Boolean ``(B, 1, X, Y, Z)``, True = hidden, at least one of them in each sample.

    Returns:
        ``(B,)``.
    """
    mask = mask.expand_as(values)
    return (values * mask).flatten(1).sum(dim=1) / mask.flatten(1).sum(dim=1)


def hidden_psnr(rebuilt: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio over hidden voxels in dB ``(B,)``; arguments as `hidden_mean`."""
    squared_error = hidden_mean((rebuilt - target) ** 2, mask)
    return -10 * torch.log10(squared_error.clamp(min=SMALLEST_SQUARED_ERROR))


def ssim_map(first: Tensor, second: Tensor) -> Tensor:
    """Return the structural similarity around every voxel (Wang et al. 2004), in 3D.

    MONAI's SSIM drops a border as wide as the window's radius, which is most of a small crop, and convolves
    with the full 3D window; this one repeats the outermost voxels past the faces and filters along one axis
    after another, many times as fast.

    Args:
        first: Float32 ``(B, C, X, Y, Z)``.
        second: The same shape.

    Returns:
        ``(B, C, X, Y, Z)`` in [-1, 1].
    """
    volumes = torch.stack([first, second, first * first, second * second, first * second])
    # Variances are small differences of larger numbers: 16 bits would leave nothing of them.
    mean_1, mean_2, square_1, square_2, product = blur(
        volumes, (SSIM_SIGMA,) * 3, border="nearest", truncate=SSIM_RADIUS / SSIM_SIGMA
    )
    variance_1 = square_1 - mean_1**2
    variance_2 = square_2 - mean_2**2
    covariance = product - mean_1 * mean_2
    luminance = (2 * mean_1 * mean_2 + SSIM_C1) / (mean_1**2 + mean_2**2 + SSIM_C1)
    return luminance * (2 * covariance + SSIM_C2) / (variance_1 + variance_2 + SSIM_C2)
