"""When checkpoints are written."""

import time
from collections.abc import Callable
from pathlib import Path

from ignite.engine import Engine, Events

from medssl.training.distributed import any_process, is_first
from medssl.training.state import TrainingState

Save = Callable[[Path, dict], None]


class Checkpoints:
    """Writes ``last.pt`` after each epoch and every so many seconds within, ``best.pt`` after each best one.

    All processes take part, because means over them go into the file; the first one writes it.

    Args:
        state: What is saved.
        save: Writes contents to a path.
        last: Path of ``last.pt``.
        best: Path of ``best.pt``.
        every_s: Seconds between saves within an epoch.
    """

    def __init__(self, state: TrainingState, *, save: Save, last: Path, best: Path, every_s: float) -> None:
        self._state = state
        self._save = save
        self._last = last
        self._best = best
        self._every_s = every_s
        self._saved_at = time.monotonic()

    def attach(self, trainer: Engine) -> None:
        """Must come after validation, so that an epoch's checkpoint knows its result."""
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._save_if_due)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._finish_epoch)

    def save(self) -> None:
        """Write ``last.pt`` now; every process must call it."""
        self._write(self._last)
        self._saved_at = time.monotonic()

    def _save_if_due(self, trainer: Engine) -> None:
        """Save within an epoch, but not at its end, which is saved once it is validated."""
        is_within = trainer.state.iteration % trainer.state.epoch_length != 0
        is_due = time.monotonic() - self._saved_at >= self._every_s
        if is_within and any_process([is_due])[0]:
            self.save()

    def _finish_epoch(self, trainer: Engine) -> None:
        if self._state.counters.best_epoch == trainer.state.epoch:
            self._write(self._best)
        self.save()

    def _write(self, path: Path) -> None:
        contents = self._state.state_dict()
        if is_first():
            self._save(path, contents)
