"""The transformer of MONAI's SwinUNETR, under the same keys."""

from collections.abc import Sequence

from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor

from medssl.networks.encoder import Encoder, FeatureMaps

LEVELS = 5
WINDOW = (7, 7, 7)
PATCH = (2, 2, 2)
HEADS = (3, 6, 12, 24)


class SwinUNETREncoder(Encoder):
    """SwinUNETR's ``swinViT`` (Hatamizadeh et al., BrainLes 2021): strides 2, 4, 8, 16 and 32.

    The maps are the ones that SwinUNETR hands to its convolutional blocks, each normalised over its channels.

    Args:
        in_channels: Channels of the input volume.
        feature_size: Channels of the finest map, a multiple of 12; each level doubles them.
        depths: Transformer blocks in each of the four stages.
    """

    def __init__(self, *, in_channels: int, feature_size: int, depths: Sequence[int]) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.channels = tuple(feature_size * 2**level for level in range(LEVELS))
        self.strides = tuple((2**level, 2**level, 2**level) for level in range(1, LEVELS + 1))
        self.architecture = {
            "name": "swin_unetr",
            "in_channels": in_channels,
            "feature_size": feature_size,
            "depths": list(depths),
        }
        self.swinViT = SwinTransformer(
            in_chans=in_channels,
            embed_dim=feature_size,
            window_size=WINDOW,
            patch_size=PATCH,
            depths=tuple(depths),
            num_heads=HEADS,
        )

    def forward(self, volume: Tensor) -> FeatureMaps:
        """Encode ``(B, in_channels, X, Y, Z)`` into five maps, fine to coarse."""
        maps: FeatureMaps = self.swinViT(volume, normalize=True)
        return maps
