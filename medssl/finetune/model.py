"""An encoder and one head."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from medssl.networks.encoder import Encoder, FeatureMaps
from medssl.networks.model import Model


class FinetuneHead(nn.Module, ABC):
    """Predictions from the encoder's feature maps."""

    @abstractmethod
    def forward(self, features: FeatureMaps, batch: dict[str, Tensor]) -> Tensor:
        """Return predictions for a batch, of which ``features`` are the maps of ``image``."""


class FinetuneModel(Model):
    """What fine-tuning trains.

    Args:
        encoder: Pretrained or not.
        head: What is put on top of it.
        name: Of the predictions.
        is_frozen: Whether the encoder stays as it is, its batch statistics included.
    """

    def __init__(self, encoder: Encoder, head: FinetuneHead, *, name: str, is_frozen: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self._name = name
        self._is_frozen = is_frozen
        self.encoder.requires_grad_(not is_frozen)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the predictions for ``image`` ``(B, C, X, Y, Z)`` by name."""
        return {self._name: self.head(self.encoder(batch["image"]), batch)}

    def train(self, mode: bool = True) -> "FinetuneModel":
        """Switch to training; a frozen encoder stays in evaluation."""
        super().train(mode)
        if self._is_frozen:
            self.encoder.eval()
        return self
