"""From feature maps and covariates to the logits of all targets."""

import torch
from torch import Tensor, nn

from medssl.finetune.model import FinetuneHead
from medssl.networks.encoder import Encoder, FeatureMaps

SMALLEST_STD = 1e-6
"""Keeps features that are the same for all cases from being blown up."""


class ClassificationHead(FinetuneHead):
    """One linear layer on the mean over the coarsest map, with the covariates put beside it.

    Args:
        encoder: Whose maps it reads.
        covariates: How many numbers come with a case.
        outputs: Number of logits.
        dropout: Share of the embedding that is hidden in training; covariates are too few to be hidden.
        is_linear: Whether to standardise the embedding and hide nothing, to probe what a frozen encoder
            holds.
    """

    def __init__(
        self, encoder: Encoder, *, covariates: int, outputs: int, dropout: float, is_linear: bool
    ) -> None:
        super().__init__()
        width = encoder.channels[-1]
        self.prepare = RunningStandardisation(width) if is_linear else nn.Dropout(dropout)
        self.linear = nn.Linear(width + covariates, outputs)

    def forward(self, features: FeatureMaps, batch: dict[str, Tensor]) -> Tensor:
        """Return logits ``(B, outputs)``.

        Args:
            features: Maps of the image.
            batch: Holds ``covariates`` ``(B, covariates)``.
        """
        embedding = self.prepare(features[-1].float().mean(dim=(2, 3, 4)))
        # Two digits, all that bfloat16 has, would make ties of probabilities that are to be ranked.
        with torch.autocast(embedding.device.type, enabled=False):
            logits: Tensor = self.linear(torch.cat([embedding.float(), batch["covariates"].float()], dim=1))
        return logits


class RunningStandardisation(nn.Module):
    """Shift and scale each feature to mean 0 and deviation 1 over everything seen in training so far.

    Features of a frozen encoder differ in scale by orders of magnitude, and vary little around large means,
    so that one learning rate would not fit them. Linear probes use batch norm without an affine part for it
    (He et al., CVPR 2022, section A.1), which needs large batches: of two samples it leaves only signs.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("squares", torch.zeros(features))
        self.count: Tensor
        self.mean: Tensor
        self.squares: Tensor

    def forward(self, embedding: Tensor) -> Tensor:
        """Return the embedding ``(B, features)`` standardised; the batch counts first, in training."""
        if self.training:
            self._count_in(embedding.detach())
        std = (self.squares / self.count.clamp_min(1)).sqrt()
        return (embedding - self.mean) / torch.where(std > SMALLEST_STD, std, torch.ones_like(std))

    def _count_in(self, embedding: Tensor) -> None:
        """Merge the batch's mean and squared deviations into those so far (Chan et al., 1979)."""
        size, batch_mean = len(embedding), embedding.mean(dim=0)
        total = self.count + size
        shift = batch_mean - self.mean
        self.squares += (embedding - batch_mean).square().sum(dim=0)
        self.squares += shift.square() * self.count * size / total
        self.mean += shift * size / total
        self.count.copy_(total)
