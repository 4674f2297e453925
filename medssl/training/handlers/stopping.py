"""Reasons to stop before the last step."""

from ignite.engine import Engine, Events

from medssl.training.distributed import any_process
from medssl.training.handlers.checkpoints import Checkpoints
from medssl.training.signals import StopRequest
from medssl.training.state import Counters


class Interruption:
    """Ends the run, saved, after the step in which any process was asked to stop.

    Attributes:
        has_happened: True once the run was ended for that.
    """

    def __init__(self, request: StopRequest, checkpoints: Checkpoints) -> None:
        self.has_happened = False
        self._request = request
        self._checkpoints = checkpoints

    def attach(self, trainer: Engine) -> None:
        """Must come after the checkpoints, which save the end of an epoch themselves."""
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._within_epoch)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)

    def _within_epoch(self, trainer: Engine) -> None:
        is_within = trainer.state.iteration % trainer.state.epoch_length != 0
        if is_within and any_process([self._request.is_set])[0]:
            self._checkpoints.save()
            self._stop(trainer)

    def _after_epoch(self, trainer: Engine) -> None:
        is_last = trainer.state.epoch == trainer.state.max_epochs
        if any_process([self._request.is_set])[0] and not is_last:
            self._stop(trainer)

    def _stop(self, trainer: Engine) -> None:
        self.has_happened = True
        trainer.terminate()


class EarlyStop:
    """Ends the run when the validation loss has not improved for ``patience_epochs`` epochs."""

    def __init__(self, counters: Counters, patience_epochs: int | None) -> None:
        self._counters = counters
        self._patience_epochs = patience_epochs

    def attach(self, trainer: Engine) -> None:
        """Must come after the checkpoints, which note the best epoch."""
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._stop_if_stalled)

    def has_stalled(self, epoch: int) -> bool:
        """Return whether ``epoch`` lies too many epochs after the best one."""
        best = self._counters.best_epoch
        return (
            self._patience_epochs is not None and best is not None and epoch - best >= self._patience_epochs
        )

    def _stop_if_stalled(self, trainer: Engine) -> None:
        if self.has_stalled(trainer.state.epoch):
            trainer.terminate()
