"""Pictures of the tasks on the same validation scans, as training goes on."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ignite.engine import Engine, Events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from torch import Tensor

from medssl.atomic import atomic_path
from medssl.training.board import Board
from medssl.training.handlers.validation import last_or_every
from medssl.training.predict import predict_sample
from medssl.training.state import TrainingState

if TYPE_CHECKING:
    from medssl.pretext.task import PretextTask


class Pictures:
    """Draws every task on a few fixed samples: the latest into ``figures/``, all of them into TensorBoard.

    Args:
        board: Where the history goes.
        state: Its best weights predict.
        tasks: Whose pictures to draw.
        samples: Transformed samples that are not collated.
        collate: Makes a batch of samples.
        folder: ``RUN/figures``.
        every_epochs: How often, apart from before the first epoch and after the last.
    """

    def __init__(
        self,
        board: Board,
        state: TrainingState,
        *,
        tasks: Sequence["PretextTask"],
        samples: Sequence[Mapping[str, Any]],
        collate: Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]],
        folder: Path,
        every_epochs: int,
    ) -> None:
        self._board = board
        self._state = state
        self._tasks = tasks
        self._samples = samples
        self._collate = collate
        self._folder = folder
        self._every_epochs = every_epochs

    def attach(self, trainer: Engine) -> None:
        """Must come after validation, to whose weights the pictures belong."""
        trainer.add_event_handler(Events.STARTED, self._draw_untrained)
        is_due = last_or_every(self._every_epochs)
        trainer.add_event_handler(Events.EPOCH_COMPLETED(event_filter=is_due), self._draw)

    def _draw_untrained(self, trainer: Engine) -> None:
        if trainer.state.iteration == 0:
            self._draw(trainer)

    def _draw(self, trainer: Engine) -> None:
        for number, sample in enumerate(self._samples, start=1):
            predictions = predict_sample(
                self._state.best_weights, self._collate([sample]), self._state.settings
            )
            for task in self._tasks:
                pixels = _rendered(task.picture(sample, predictions[task.name]))
                with atomic_path(self._folder / f"{task.name}_{number}.png") as temporary:
                    imsave(temporary, pixels)
                self._board.picture(f"{task.name}/scan {number}", pixels, step=trainer.state.iteration)


def _rendered(figure: Figure) -> np.ndarray:
    """Return the pixels of a figure, ``(H, W, 3)`` uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
