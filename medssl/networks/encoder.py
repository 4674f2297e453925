"""The one contract every encoder keeps."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

FeatureMaps = list[Tensor]
Stride3D = tuple[int, int, int]


class Encoder(nn.Module, ABC):
    """A 3D network from a volume to feature maps, fine to coarse.

    Attributes:
        in_channels: Channels of the input volume.
        channels: Channels of each feature map, fine to coarse.
        strides: How many input voxels one voxel of each feature map spans along X, Y and Z, cumulative.
        architecture: Plain values that `medssl.networks.build.rebuild_encoder` makes the same network from.
    """

    in_channels: int
    channels: tuple[int, ...]
    strides: tuple[Stride3D, ...]
    architecture: dict[str, Any]

    @abstractmethod
    def forward(self, volume: Tensor) -> FeatureMaps:
        """Encode a batch.

        Args:
            volume: ``(B, in_channels, X, Y, Z)``, any size of at least `smallest_input`.

        Returns:
            One map ``(B, channels[i], ~X / strides[i][0], ~Y / strides[i][1], ~Z / strides[i][2])`` a level;
            sizes that do not divide are rounded up.
        """

    def embed(self, volume: Tensor) -> Tensor:
        """Return one embedding a volume ``(B, channels[-1])``: the mean over the coarsest feature map."""
        return self(volume)[-1].mean(dim=(2, 3, 4))

    def smallest_input(self) -> tuple[int, int, int]:
        """Return the fewest voxels an axis needs so that the coarsest map keeps two of them."""
        x, y, z = self.strides[-1]
        return x + 1, y + 1, z + 1
