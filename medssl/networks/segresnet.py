"""The encoder of MONAI's SegResNet, under the same keys."""

from collections.abc import Sequence

from monai.networks.nets import SegResNet
from torch import Tensor

from medssl.networks.encoder import Encoder, FeatureMaps


class SegResNetEncoder(Encoder):
    """SegResNet without decoder (Myronenko, BrainLes 2018): strides 1, 2, 4, ... along every axis.

    Args:
        in_channels: Channels of the input volume.
        init_filters: Channels of the finest map, a multiple of 8 for the group norm; each level doubles them.
        blocks_down: Residual blocks in each level.
    """

    def __init__(self, *, in_channels: int, init_filters: int, blocks_down: Sequence[int]) -> None:
        super().__init__()
        levels = range(len(blocks_down))
        self.in_channels = in_channels
        self.channels = tuple(init_filters * 2**level for level in levels)
        self.strides = tuple((2**level, 2**level, 2**level) for level in levels)
        self.architecture = {
            "name": "segresnet",
            "in_channels": in_channels,
            "init_filters": init_filters,
            "blocks_down": list(blocks_down),
        }
        stock = SegResNet(
            spatial_dims=3,
            init_filters=init_filters,
            in_channels=in_channels,
            blocks_down=tuple(blocks_down),
            blocks_up=(1,) * (len(blocks_down) - 1),
        )
        self.convInit = stock.convInit
        self.down_layers = stock.down_layers

    def forward(self, volume: Tensor) -> FeatureMaps:
        """Encode ``(B, in_channels, X, Y, Z)`` into one map a level, fine to coarse."""
        features = self.convInit(volume)
        maps = []
        for layer in self.down_layers:
            features = layer(features)
            maps.append(features)
        return maps
