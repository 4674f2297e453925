"""One row an epoch in ``metrics.csv``, and where the run stands in ``run.json``."""

from typing import Any

from ignite.engine import Engine, Events

from medssl.training.run_folder import RunFolder
from medssl.training.state import Counters


class Table:
    """Writes each epoch's metrics; rows of epochs that are done again after a resume are replaced."""

    def __init__(self, run: RunFolder, counters: Counters) -> None:
        self._run = run
        self._counters = counters
        self._rows: list[dict[str, Any]] = [
            row for row in run.read_metrics() if int(row["step"]) <= counters.step
        ]

    def attach(self, trainer: Engine) -> None:
        """Must come after everything that adds to an epoch's metrics."""
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _write(self, trainer: Engine) -> None:
        metrics = {name: _rounded(value) for name, value in trainer.state.metrics.items()}
        self._rows.append(metrics)
        self._run.write_metrics(self._rows)
        self._run.update_status(
            epoch=trainer.state.epoch,
            step=trainer.state.iteration,
            seconds=metrics["seconds"],
            skipped_steps=self._counters.skipped_steps,
            best={"epoch": self._counters.best_epoch, "val_loss": self._counters.best_value},
        )


def _rounded(value: float) -> float | str:
    """Return a number that reads well in a spreadsheet; one that does not exist leaves its cell empty."""
    if isinstance(value, int):
        return value
    return "" if value != value else float(f"{value:.6g}")
