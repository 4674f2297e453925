"""The means of an epoch's training losses and metrics."""

from ignite.engine import Engine, Events

from medssl.training.state import TrainingState


class TrainingMeans:
    """Starts each epoch's metrics with the means of its steps, as ``train/...``, and the learning rate."""

    def __init__(self, state: TrainingState) -> None:
        self._state = state

    def attach(self, trainer: Engine) -> None:
        """Must come before every handler that adds to the epoch's metrics."""
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _report(self, trainer: Engine) -> None:
        trainer.state.metrics = {
            "epoch": trainer.state.epoch,
            "step": trainer.state.iteration,
            "learning_rate": self._state.optimiser.param_groups[0]["lr"],
            "skipped_steps": self._state.counters.skipped_steps,
            **{f"train/{name}": value for name, value in self._state.averages.compute().items()},
        }
        self._state.averages.reset()
