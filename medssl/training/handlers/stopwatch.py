"""How long training takes, and how much of that is waiting for data."""

from ignite.engine import Engine, Events
from ignite.handlers import Timer

from medssl.training.state import TrainingState


class Stopwatch:
    """Keeps the run's ``counters.seconds`` and adds times to each epoch's metrics.

    Adds ``seconds`` over all sittings, ``step_s`` and ``data_wait_s`` a step, and ``data_wait_share``, the
    share of the epoch in which the next batch was not ready, in [0, 1].
    """

    def __init__(self, state: TrainingState) -> None:
        self._counters = state.counters
        self._seconds_before = state.counters.seconds
        self._sitting, self._epoch, self._waiting = Timer(), Timer(), Timer()
        self._first_step = 0

    def attach(self, trainer: Engine) -> None:
        """Must come before validation, whose time is not part of a step's."""
        self._sitting.attach(trainer, start=Events.STARTED)
        self._epoch.attach(trainer, start=Events.EPOCH_STARTED)
        self._waiting.attach(
            trainer,
            start=Events.EPOCH_STARTED,
            resume=Events.GET_BATCH_STARTED,
            pause=Events.GET_BATCH_COMPLETED,
        )
        trainer.add_event_handler(Events.EPOCH_STARTED, self._note_step)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _note_step(self, trainer: Engine) -> None:
        self._first_step = trainer.state.iteration

    def _count(self, trainer: Engine) -> None:
        self._counters.seconds = self._seconds_before + self._sitting.value()

    def _report(self, trainer: Engine) -> None:
        steps = trainer.state.iteration - self._first_step
        trainer.state.metrics |= {
            "seconds": self._counters.seconds,
            "step_s": self._epoch.value() / steps,
            "data_wait_s": self._waiting.value() / steps,
            "data_wait_share": self._waiting.value() / self._epoch.value(),
        }
