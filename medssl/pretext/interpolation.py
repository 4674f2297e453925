"""Smooth interpolation: what inpainting can do without knowing anatomy."""

import numpy as np
import torch

from medssl.pretext.blur import blur

MEAN_PULL = 1e-6
"""Weight of the visible mean beside the Gaussian weights, so that it fills what they do not reach."""


def interpolate_visible(volume: np.ndarray, mask: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Blur the visible voxels into the hidden ones (normalised convolution, Knutsson and Westin 1993).

    Args:
        volume: ``(X, Y, Z)``; hidden voxels are not looked at.
        mask: Boolean ``(X, Y, Z)``, True = hidden.
        sigma: Standard deviation in voxels along X, Y and Z ``(3,)``.

    Returns:
        ``(X, Y, Z)``.
    """
    visible = (~mask).astype(np.float32)
    both = torch.from_numpy(np.stack([visible, volume * visible]))
    weights, sums = blur(both, sigma.tolist(), border="constant").numpy()
    filled: np.ndarray = (sums + MEAN_PULL * volume[~mask].mean()) / (weights + MEAN_PULL)
    return filled
