"""From the feature maps of any encoder back to the size of its input."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medssl.networks.encoder import Stride3D

FULL_SIZE: Stride3D = (1, 1, 1)

WIDEST_AT_FULL_SIZE = 32
"""Most channels at full size, doubled for each level below.

Some encoders carry many channels where convolutions are dearest (ResNet has 64 at full size); a decoder as
wide would cost several times what such an encoder does.
"""


class UNetDecoder(nn.Module):
    """A light U-Net decoder (Ronneberger et al., MICCAI 2015): one convolution a level after each skip.

    It knows nothing of an encoder but channels and strides. Where the finest map is smaller than the input,
    one more level without a skip brings it to full size.

    Args:
        channels: Channels of the encoder's maps, fine to coarse.
        strides: Their cumulative strides along X, Y and Z.
        out_channels: Channels of the result.

    Attributes:
        levels: Everything but the last convolution.
        out: The last convolution, 1 x 1 x 1; another task replaces it and keeps the rest.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[Stride3D], *, out_channels: int) -> None:
        super().__init__()
        starts_at_full_size = tuple(strides[0]) == FULL_SIZE
        scales = [*strides] if starts_at_full_size else [FULL_SIZE, *strides]
        skips = [*channels[:-1]] if starts_at_full_size else [0, *channels[:-1]]
        levels = []
        width = channels[-1]
        for level in reversed(range(len(skips))):
            wanted = skips[level] or width // 2
            coarse, width = width, min(wanted, WIDEST_AT_FULL_SIZE * 2**level)
            stride = _ratio(scales[level + 1], scales[level])
            levels.append(_Level(coarse, skips[level], width, stride=stride))
        self.levels = nn.ModuleList(levels)
        self.out = nn.Conv3d(width, out_channels, kernel_size=1)

    def body(self, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Return the features at full size ``(B, out.in_channels, *size)`` that `out` reads."""
        *skips, result = features
        no_skip = result.new_empty((result.shape[0], 0, *size))
        finer = [*reversed(skips), no_skip]
        for level, skip in zip(self.levels, finer, strict=False):
            result = level(result, skip)
        return result

    def forward(self, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Decode feature maps.

        Args:
            features: The encoder's maps, fine to coarse.
            size: Voxels of the encoder's input along X, Y and Z.

        Returns:
            ``(B, out_channels, *size)``.
        """
        result: Tensor = self.out(self.body(features, size))
        return result


class _Level(nn.Module):
    """Up-sample, put the skip beside it, convolve."""

    def __init__(
        self, coarse_channels: int, skip_channels: int, out_channels: int, *, stride: Stride3D
    ) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(coarse_channels, out_channels, kernel_size=stride, stride=stride)
        self.block = nn.Sequential(
            nn.Conv3d(out_channels + skip_channels, out_channels, kernel_size=3, padding=1),
            nn.InstanceNorm3d(out_channels, affine=True),
            nn.LeakyReLU(inplace=True),
        )

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Return a map of the skip's size; the skip may have no channels."""
        x, y, z = skip.shape[2:]
        # Encoders round sizes up, so what is too much after up-sampling lies at the far ends.
        fine = self.up(coarse)[:, :, :x, :y, :z]
        result: Tensor = self.block(torch.cat([fine, skip.to(fine.dtype)], dim=1))
        return result


def _ratio(coarse: Stride3D, fine: Stride3D) -> Stride3D:
    return coarse[0] // fine[0], coarse[1] // fine[1], coarse[2] // fine[2]
