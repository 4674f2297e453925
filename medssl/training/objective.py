"""What the engine must know of what it trains for: a mixture of pretext tasks, or a goal with labels."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor


class Objective(Protocol):
    """Losses and metrics of a model's predictions."""

    def losses(self, predictions: Mapping[str, Any], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss of each sample ``(B,)`` by name."""

    def total_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar to be minimised."""

    def metrics(self, predictions: Mapping[str, Any], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return every metric of each sample ``(B,)`` as "name/metric"."""
