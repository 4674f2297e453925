"""MONAI's 3D ResNet-18 and ResNet-50 without the classifier, under the same keys."""

from typing import Literal

from monai.networks.nets import resnet18, resnet50
from torch import Tensor

from medssl.networks.encoder import Encoder, FeatureMaps

STOCK = {18: resnet18, 50: resnet50}
PLANES = (64, 128, 256, 512)
EXPANSION = {18: 1, 50: 4}


class ResNetEncoder(Encoder):
    """ResNet (He et al., CVPR 2016) with MONAI's defaults: strides 1, 2, 4, 8 and 16 along every axis.

    The finest map is what the first convolution gives, normalised and activated; the others come out of
    ``layer1`` to ``layer4``.

    Args:
        in_channels: Channels of the input volume.
        depth: Layers with weights.
        widen_factor: Factor of the stock network's channels; 1 is the stock network.
    """

    def __init__(self, *, in_channels: int, depth: Literal[18, 50], widen_factor: float) -> None:
        super().__init__()
        planes = [int(width * widen_factor) for width in PLANES]
        self.in_channels = in_channels
        self.channels = (planes[0], *(width * EXPANSION[depth] for width in planes))
        self.strides = tuple((2**level, 2**level, 2**level) for level in range(len(self.channels)))
        self.architecture = {
            "name": f"resnet{depth}",
            "in_channels": in_channels,
            "depth": depth,
            "widen_factor": widen_factor,
        }
        stock = STOCK[depth](n_input_channels=in_channels, widen_factor=widen_factor, feed_forward=False)
        self.conv1, self.bn1, self.act, self.maxpool = stock.conv1, stock.bn1, stock.act, stock.maxpool
        self.layer1, self.layer2 = stock.layer1, stock.layer2
        self.layer3, self.layer4 = stock.layer3, stock.layer4

    def forward(self, volume: Tensor) -> FeatureMaps:
        """Encode ``(B, in_channels, X, Y, Z)`` into five maps, fine to coarse."""
        features = self.act(self.bn1(self.conv1(volume)))
        maps = [features]
        features = self.maxpool(features)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            features = layer(features)
            maps.append(features)
        return maps
