"""From feature maps to a rebuilt crop, with or without a discriminator."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.networks.decoder import UNetDecoder
from medssl.networks.encoder import Encoder
from medssl.networks.heads import GradientReversal, PatchDiscriminator
from medssl.pretext.task import Batch, TaskHead

SMALLEST_JUDGED_SIDE = 16
"""Voxels along each axis that the discriminator needs."""


class InpaintingPrediction(NamedTuple):
    """What the inpainting head returns.

    Attributes:
        volume: ``(B, C, X, Y, Z)``; only its hidden voxels mean something.
        real_logits: The discriminator on true crops ``(B, ...)``, or None without one or in evaluation.
        fake_logits: The discriminator on rebuilt crops, likewise.
    """

    volume: Tensor
    real_logits: Tensor | None = None
    fake_logits: Tensor | None = None


class InpaintingHead(TaskHead):
    """A U-Net decoder, and a discriminator when the adversarial loss is on.

    The decoder says how voxels differ from the mean of the visible ones. Its instance norm forgets how bright
    a crop is, so without that mean a network learns for long before it does better than guessing it.
    """

    def __init__(self, encoder: Encoder, *, is_adversarial: bool) -> None:
        super().__init__()
        self.decoder = UNetDecoder(encoder.channels, encoder.strides, out_channels=encoder.in_channels)
        self.discriminator = PatchDiscriminator(encoder.in_channels) if is_adversarial else None
        self.reverse = GradientReversal()

    def forward(self, features: list[Tensor], batch: Batch) -> InpaintingPrediction:
        """Decode, and in training judge the true crop and the rebuilt one."""
        target = batch["inpainting_target"]
        volume = visible_mean(batch) + self.decoder(features, target.shape[2:])
        if self.discriminator is None or not self.training:
            return InpaintingPrediction(volume)
        rebuilt = self.reverse(fill_hidden(volume, batch))
        return InpaintingPrediction(volume, self.discriminator(target), self.discriminator(rebuilt))


def visible_mean(batch: Batch) -> Tensor:
    """Return the mean of each channel's visible voxels ``(B, C, 1, 1, 1)``."""
    visible = ~batch["inpainting_mask"]
    over = (2, 3, 4)
    return (batch["image"] * visible).sum(over, keepdim=True) / visible.sum(over, keepdim=True)


def fill_hidden(volume: Tensor, batch: Batch) -> Tensor:
    """Return ``volume`` where voxels were hidden and the target elsewhere.

    The visible voxels come from the target and not from the input, which may carry augmentation noise: to a
    discriminator that noise would be the difference between real and rebuilt.
    """
    return torch.where(batch["inpainting_mask"], volume, batch["inpainting_target"].to(volume.dtype))


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return ``-log D(real) - log(1 - D(fake))`` of each sample ``(B,)``, averaged over patches."""
    real = F.softplus(-real_logits.float()).flatten(1).mean(dim=1)
    return real + F.softplus(fake_logits.float()).flatten(1).mean(dim=1)
