"""What pretext tasks put on top of an encoder, and the tools of adversarial training."""

from typing import Any

import torch
from monai.networks.nets import PatchDiscriminator as MonaiPatchDiscriminator
from torch import Tensor, nn


class ClassificationHead(nn.Module):
    """Logits from an embedding: layer norm and a perceptron with one hidden layer as wide as the embedding.

    Args:
        in_features: Length of the embedding.
        classes: Number of classes.
    """

    def __init__(self, in_features: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(in_features),
            nn.Linear(in_features, in_features),
            nn.GELU(),
            nn.Linear(in_features, classes),
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """Return logits ``(B, classes)`` for embeddings ``(B, in_features)``."""
        logits: Tensor = self.layers(embedding)
        return logits


class PairHead(nn.Module):
    """Logits from two embeddings in order, put end to end (Doersch et al., ICCV 2015).

    Their difference is not added: the first linear layer can form it.

    Args:
        in_features: Length of each embedding.
        classes: Number of classes.
    """

    def __init__(self, in_features: int, classes: int) -> None:
        super().__init__()
        self.head = ClassificationHead(2 * in_features, classes)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return logits ``(B, classes)`` for two embeddings ``(B, in_features)``."""
        logits: Tensor = self.head(torch.cat([first, second], dim=1))
        return logits


class PatchDiscriminator(nn.Module):
    """Tells real volumes from rebuilt ones, patch by patch (PatchGAN, Isola et al., CVPR 2017).

    MONAI's network with two strided convolutions, so that a crop of 24 voxels still gives 4 x 4 x 4
    judgements, and with instance norm: batch statistics would tie the judgement of one crop to the others.

    Args:
        in_channels: Channels of the volume.
        channels: Channels of the first layer, doubled by each of the two that follow.
    """

    def __init__(self, in_channels: int = 1, channels: int = 16) -> None:
        super().__init__()
        self.network = MonaiPatchDiscriminator(
            spatial_dims=3, channels=channels, in_channels=in_channels, num_layers_d=2, norm="INSTANCE"
        )

    def forward(self, volume: Tensor) -> Tensor:
        """Return logits ``(B, 1, ~X / 4, ~Y / 4, ~Z / 4)``, positive for real.

        Args:
            volume: ``(B, in_channels, X, Y, Z)``, at least 16 voxels along each axis.
        """
        logits: Tensor = self.network(volume)[-1]
        return logits


class GradientReversal(nn.Module):
    """Leaves values as they are and turns gradients round (Ganin & Lempitsky, ICML 2015).

    What comes before it is trained to raise the loss that what comes after it is trained to lower.

    Args:
        factor: Scales the reversed gradient.
    """

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, tensor: Tensor) -> Tensor:
        """Return ``tensor``; its gradient is multiplied by ``-factor`` on the way back."""
        result: Tensor = _Reverse.apply(tensor, self.factor)
        return result


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor, factor: float) -> Tensor:
        context.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -context.factor * gradients[0], None
