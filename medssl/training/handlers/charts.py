"""Points for the TensorBoard charts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ignite.engine import Engine, Events

from medssl.training.board import Board
from medssl.training.engine import is_logged
from medssl.training.state import TrainingState

if TYPE_CHECKING:
    from medssl.pretext.task import CueReport

SPEED = ("step_s", "data_wait_s", "data_wait_share")


class Charts:
    """Draws losses, metrics beside chance and trivial cue, optimisation, speed and embedding health."""

    def __init__(
        self, board: Board, state: TrainingState, *, cues: Mapping[str, "CueReport"], log_every_steps: int
    ) -> None:
        self._board = board
        self._state = state
        self._cues = cues
        self._log_every_steps = log_every_steps

    def attach(self, trainer: Engine) -> None:
        """Must come after everything that adds to an epoch's metrics."""
        trainer.add_event_handler(Events.STARTED, self._draw_cues)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._draw_step)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._draw_epoch)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._draw_cues)

    def _draw_cues(self, trainer: Engine) -> None:
        """Lengthen the chance and trivial-cue lines to the current step."""
        for task, cue in self._cues.items():
            chart, step = f"{task}/{cue.metric}", trainer.state.iteration
            self._board.scalars("chance", {chart: cue.chance}, step=step)
            self._board.scalars("trivial cue", {chart: cue.trivial}, step=step)

    def _draw_step(self, trainer: Engine) -> None:
        result = trainer.state.output
        if not result.is_finite or not is_logged(trainer, self._log_every_steps):
            return
        values = {name: float(value.nanmean()) for name, value in result.values.items()}
        optimisation = {
            "optimisation/learning_rate": self._state.optimiser.param_groups[0]["lr"],
            "optimisation/gradient_norm": result.gradient_norm,
        }
        charts = {"all tasks/loss": result.loss, **values, **optimisation}
        self._board.scalars("train", charts, step=trainer.state.iteration)

    def _draw_epoch(self, trainer: Engine) -> None:
        metrics, step = trainer.state.metrics, trainer.state.iteration
        speed = {f"speed/{name}": metrics[name] for name in SPEED}
        self._board.scalars("train", speed, step=step)
        self._board.scalars("validation", _validation_charts(metrics), step=step)
        self._board.flush()


def _validation_charts(metrics: Mapping[str, float]) -> dict[str, float]:
    charts = {name.removeprefix("val/"): value for name, value in metrics.items() if name.startswith("val/")}
    if "loss" in charts:
        charts["all tasks/loss"] = charts.pop("loss")
    health = {name: value for name, value in metrics.items() if name.startswith("embeddings/")}
    return charts | health
