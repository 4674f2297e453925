"""What the person at the screen sees while a run trains."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ignite.engine import Engine, Events
from ignite.handlers import Timer

from medssl.progress import Advance, Progress

if TYPE_CHECKING:
    from medssl.pretext.task import CueReport


class Screen:
    """Moves a bar on with each step and tells one line an epoch."""

    def __init__(self, progress: Progress, advance: Advance, *, cues: Mapping[str, "CueReport"]) -> None:
        self._progress = progress
        self._advance = advance
        self._cues = cues
        self._sitting = Timer()
        self._first_step = 0

    def attach(self, trainer: Engine) -> None:
        """Must come after everything that adds to an epoch's metrics."""
        self._sitting.attach(trainer, start=Events.STARTED)
        trainer.add_event_handler(Events.STARTED, self._note_step)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._move)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._tell)

    def _note_step(self, trainer: Engine) -> None:
        self._first_step = trainer.state.iteration

    def _move(self, trainer: Engine) -> None:
        self._advance(1, detail=f"loss {trainer.state.output.loss:.3f}")

    def _tell(self, trainer: Engine) -> None:
        metrics = trainer.state.metrics
        loss = metrics.get("val/loss", metrics.get("train/loss", math.nan))
        parts = [
            f"epoch {trainer.state.epoch}/{trainer.state.max_epochs}",
            f"loss {loss:.3f}",
            *(_beside_cues(task, cue, metrics) for task, cue in self._cues.items()),
            f"{format_duration(self._seconds_left(trainer))} left",
        ]
        self._progress.say("  ".join(part for part in parts if part))

    def _seconds_left(self, trainer: Engine) -> float:
        done = trainer.state.iteration - self._first_step
        steps_left = trainer.state.epoch_length * trainer.state.max_epochs - trainer.state.iteration
        return self._sitting.value() / max(done, 1) * steps_left


def _beside_cues(task: str, cue: "CueReport", metrics: Mapping[str, float]) -> str:
    """Return a task's key metric beside chance and trivial cue, nothing in an epoch without validation."""
    name = f"val/{task}/{cue.metric}"
    if name not in metrics:
        return ""
    return (
        f"{task} {cue.metric} {metrics[name]:.3f} [chance {cue.chance:.3f} | trivial cue {cue.trivial:.3f}]"
    )


def format_duration(seconds: float) -> str:
    """Return a duration as "40 s", "3 min" or "2 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
