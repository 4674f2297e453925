"""Pictures of the same validation scans, as training goes on."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from ignite.engine import Engine, Events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

from medssl.atomic import atomic_path
from medssl.training.board import Board
from medssl.training.handlers.validation import last_or_every

Draw = Callable[[], Iterable[tuple[str, int, Figure]]]
"""Yields what a picture shows, the number of the scan, and the picture."""


class Pictures:
    """Keeps the latest pictures in ``figures/`` and all of them in TensorBoard.

    Args:
        board: Where the history goes.
        draw: Makes them with the weights of the moment.
        folder: ``RUN/figures``.
        every_epochs: How often, apart from before the first epoch and after the last.
    """

    def __init__(self, board: Board, draw: Draw, *, folder: Path, every_epochs: int) -> None:
        self._board = board
        self._draw = draw
        self._folder = folder
        self._every_epochs = every_epochs

    def attach(self, trainer: Engine) -> None:
        """Must come after validation, to whose weights the pictures belong."""
        trainer.add_event_handler(Events.STARTED, self._keep_untrained)
        is_due = last_or_every(self._every_epochs)
        trainer.add_event_handler(Events.EPOCH_COMPLETED(event_filter=is_due), self._keep)

    def _keep_untrained(self, trainer: Engine) -> None:
        if trainer.state.iteration == 0:
            self._keep(trainer)

    def _keep(self, trainer: Engine) -> None:
        for what, number, figure in self._draw():
            pixels = _rendered(figure)
            with atomic_path(self._folder / f"{what}_{number}.png") as temporary:
                imsave(temporary, pixels)
            self._board.picture(f"{what}/scan {number}", pixels, step=trainer.state.iteration)


def _rendered(figure: Figure) -> np.ndarray:
    """Return the pixels of a figure, ``(H, W, 3)`` uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
