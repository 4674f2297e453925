"""How the network does on scans it was not trained on."""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from medssl.training.averages import Averages
from medssl.training.distributed import gather
from medssl.training.predict import predict
from medssl.training.state import TrainingState

if TYPE_CHECKING:
    from medssl.pretext.mixture import PretextMixture

EmbeddingHealth = Callable[[Tensor], dict[str, float]]
Measure = Callable[[], dict[str, float]]


class Validation:
    """Adds what is measured on held-out scans to an epoch's metrics, and notes the best epoch.

    Nothing random is drawn, so validating changes nothing about training.

    Args:
        state: Of the run.
        measure: Returns metrics by name, of which ``val/loss`` is lowest in the best epoch; every process
            calls it.
        every_epochs: How often, apart from after the last epoch.
    """

    def __init__(self, state: TrainingState, measure: Measure, *, every_epochs: int) -> None:
        self._state = state
        self._measure = measure
        self._every_epochs = every_epochs

    def attach(self, trainer: Engine) -> None:
        """Validate after every so many epochs and after the last one."""
        is_due = last_or_every(self._every_epochs)
        trainer.add_event_handler(Events.EPOCH_COMPLETED(event_filter=is_due), self._report)

    def _report(self, trainer: Engine) -> None:
        metrics, counters = self._measure(), self._state.counters
        trainer.state.metrics |= metrics
        value = metrics["val/loss"]
        if math.isfinite(value) and (counters.best_value is None or value < counters.best_value):
            counters.best_value, counters.best_epoch = value, trainer.state.epoch


class PretextMeasure:
    """Measures ``val/...`` losses and metrics and ``embeddings/...`` health on fixed crops.

    The crops are the same every time, and the weights are those that are kept: the moving average if there is
    one. ``val/loss`` is the total over all tasks.
    """

    def __init__(
        self,
        state: TrainingState,
        mixture: "PretextMixture",
        batches: Callable[[], Iterator[dict[str, Tensor]]],
        embedding_health: EmbeddingHealth,
    ) -> None:
        self._state = state
        self._mixture = mixture
        self._batches = batches
        self._embedding_health = embedding_health

    def __call__(self) -> dict[str, float]:
        """Return the metrics; every process must call it, and each gets the result over all."""
        averages, embeddings = Averages(), []
        model = self._state.best_weights
        model.eval()
        with torch.inference_mode():
            for batch in self._batches():
                batch = self._state.settings.move(batch)
                averages.add(self._values(batch))
                embeddings.append(self._embed(batch))
        model.train()
        values = averages.compute()
        health = self._embedding_health(torch.cat([rows for own in gather(embeddings) for rows in own]))
        return {
            "val/loss": self._total_loss(values),
            **{f"val/{name}": value for name, value in values.items()},
            **{f"embeddings/{name}": value for name, value in health.items()},
        }

    def _values(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        predictions = predict(self._state.best_weights, batch, self._state.settings)
        losses = self._mixture.losses(predictions, batch)
        return {
            **{f"{name}/loss": loss for name, loss in losses.items()},
            **self._mixture.metrics(predictions, batch),
        }

    def _embed(self, batch: dict[str, Tensor]) -> Tensor:
        """Return one embedding a crop, ``(B, D)``; of several views of a sample, that of the first."""
        keys = [task.input_key for task in self._mixture.tasks]
        volumes = batch["image" if "image" in keys else keys[0]]
        first_views = volumes[:, 0] if volumes.dim() == 6 else volumes
        with self._state.settings.autocast():
            embeddings: Tensor = self._state.best_weights.encoder.embed(first_views)
        return embeddings.float().cpu()

    def _total_loss(self, values: dict[str, float]) -> float:
        """Weight the tasks' means, which is exact because the total is linear in them."""
        means = {task.name: torch.tensor([values[f"{task.name}/loss"]]) for task in self._mixture.tasks}
        return float(self._mixture.total_loss(means))


def last_or_every(epochs: int) -> Callable[[Engine, int], bool]:
    """Return an event filter for every so many epochs and the last one."""
    return lambda trainer, epoch: epoch % epochs == 0 or epoch == trainer.state.max_epochs
