"""Sentences for when something goes wrong quietly."""

from ignite.engine import Engine, Events

from medssl.progress import Progress
from medssl.training.board import Board

LONG_WAIT_SHARE = 0.2
"""Share of an epoch spent waiting for data that is worth a word."""

FEWEST_STEPS_TO_JUDGE = 10
"""An epoch of fewer steps mostly measures how the loader starts."""

COLLAPSED_RANK = 1.5
COLLAPSED_SPREAD = 0.01
"""Embeddings that differ by a hundredth of their length: their cosines are above 0.9999."""


class Alarms:
    """Tells, once for each time it begins, that the network waits for data or that embeddings collapsed."""

    def __init__(self, progress: Progress, board: Board, *, loader_threads: int) -> None:
        self._progress = progress
        self._board = board
        self._loader_threads = loader_threads
        self._ringing: set[str] = set()

    def attach(self, trainer: Engine) -> None:
        """Must come after everything that adds to an epoch's metrics."""
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._check_waiting)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._check_collapse)

    def _check_waiting(self, trainer: Engine) -> None:
        share = trainer.state.metrics["data_wait_share"]
        is_waiting = share > LONG_WAIT_SHARE and trainer.state.epoch_length >= FEWEST_STEPS_TO_JUDGE
        message = (
            f"The network waited for data {share:.0%} of the time in epoch {trainer.state.epoch}: raise "
            f"speed.loader_threads (now {self._loader_threads}) if cores are idle, or put the store on a "
            "faster disk."
        )
        self._ring("waiting", is_waiting, message, step=trainer.state.iteration)

    def _check_collapse(self, trainer: Engine) -> None:
        metrics = trainer.state.metrics
        if "embeddings/effective_rank" not in metrics:
            return
        rank, spread = metrics["embeddings/effective_rank"], metrics["embeddings/spread"]
        message = (
            f"The embeddings have collapsed (effective rank {rank:.1f}, spread {spread:.4f}): the encoder "
            "answers nearly the same for every crop; lower optimiser.learning_rate or raise "
            "training.batch_size."
        )
        is_collapsed = rank < COLLAPSED_RANK or spread < COLLAPSED_SPREAD
        self._ring("collapse", is_collapsed, message, step=trainer.state.iteration)

    def _ring(self, alarm: str, is_on: bool, message: str, *, step: int) -> None:
        if not is_on:
            self._ringing.discard(alarm)
        elif alarm not in self._ringing:
            self._ringing.add(alarm)
            self._progress.warn(message)
            self._board.text(f"alarms/{alarm}", message, step=step)
