"""Means over samples that are exact, however the samples were batched and shared out."""

from collections.abc import Mapping

import torch
from torch import Tensor

from medssl.training.distributed import gather, is_first


class Averages:
    """Sums and counts of named values of samples.

    Values stay on their device until `compute`, so adding never waits for a GPU.
    """

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add the values ``(B,)`` of some samples; NaN means that a value does not apply and is left out."""
        for name, value in values.items():
            value = value.detach().double()
            total = torch.stack([value.nansum(), (~value.isnan()).sum()])
            before = self._totals.get(name, torch.zeros(2, dtype=torch.float64))
            self._totals[name] = before.to(total.device) + total

    def compute(self) -> dict[str, float]:
        """Return the mean of each name over all processes, NaN where no sample counted; all must call it."""
        return {
            name: total / count if count else float("nan")
            for name, (total, count) in sorted(self._gathered().items())
        }

    def reset(self) -> None:
        """Forget everything."""
        self._totals.clear()

    def state_dict(self) -> dict[str, tuple[float, float]]:
        """Return sums and counts over all processes; all must call it."""
        return self._gathered()

    def load_state_dict(self, state: Mapping[str, tuple[float, float]]) -> None:
        """Go on from sums and counts over all processes; the first process keeps them for all."""
        kept = state if is_first() else {}
        self._totals = {name: torch.tensor(total, dtype=torch.float64) for name, total in kept.items()}

    def _gathered(self) -> dict[str, tuple[float, float]]:
        own = {name: tuple(total.tolist()) for name, total in self._totals.items()}
        result: dict[str, tuple[float, float]] = {}
        for totals in gather(own):
            for name, (total, count) in totals.items():
                before = result.get(name, (0.0, 0.0))
                result[name] = (before[0] + total, before[1] + count)
        return result
