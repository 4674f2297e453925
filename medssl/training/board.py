"""TensorBoard charts in which a line is never alone."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

LINES = ("train", "validation", "chance", "trivial cue")

EVENTS = "events.out.tfevents."
"""What the files of a TensorBoard folder are named, before the seconds since 1970."""

GUIDE = Path(__file__).with_name("guide.md")
"""What each chart means, for someone who reads scans rather than charts."""


class Board:
    """Writes one TensorBoard run a line, so that TensorBoard draws all lines of a name in one chart.

    Args:
        folder: ``RUN/tensorboard``.
        resumed_step: Step that training goes on from; what an earlier sitting wrote past it is hidden.
    """

    def __init__(self, folder: Path, *, resumed_step: int) -> None:
        purge_step = resumed_step + 1 if resumed_step else None
        for line in LINES:
            _date_before_now(folder / line)
        self._writers = {line: SummaryWriter(folder / line, purge_step=purge_step) for line in LINES}
        if not resumed_step:
            self.text("how to read these charts", GUIDE.read_text(encoding="utf-8"), step=0)

    def scalars(self, line: str, values: Mapping[str, float], *, step: int) -> None:
        """Add a point to the charts named in ``values``.

        Args:
            line: One of `LINES`.
            values: Chart names, "group/name", and the points.
            step: Optimiser steps done.
        """
        for chart, value in values.items():
            self._writers[line].add_scalar(chart, value, step)

    def picture(self, name: str, pixels: np.ndarray, *, step: int) -> None:
        """Add a picture ``(H, W, 3)``, uint8, to the history under ``name``."""
        self._writers["validation"].add_image(name, pixels, step, dataformats="HWC")

    def text(self, name: str, markdown: str, *, step: int) -> None:
        """Add a text under ``name``."""
        self._writers["train"].add_text(name, markdown, step)

    def flush(self) -> None:
        """Bring everything to disk."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Flush and close the files."""
        for writer in self._writers.values():
            writer.close()


def _date_before_now(folder: Path) -> None:
    """Rename files of earlier sittings that a clock, since set back, dated later than now.

    TensorBoard reads the files of a folder in the order of their names, which begin with the time.
    """
    next_time_s = int(time.time())
    for file in sorted(folder.glob(f"{EVENTS}*"), reverse=True):
        time_s, _, rest = file.name.removeprefix(EVENTS).partition(".")
        if int(time_s) < next_time_s:
            return
        next_time_s -= 1
        file.rename(file.with_name(f"{EVENTS}{next_time_s:010}.{rest}"))
