"""Everything medssl prints: results on standard output, what is going on on standard error."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from medssl.progress import Advance, Progress, SilentProgress

IS_FIRST_PROCESS = int(os.environ.get("RANK", "0")) == 0
"""False in all but one of the processes that torchrun starts: only one of them tells its results."""

console = Console(highlight=False, quiet=not IS_FIRST_PROCESS)
err_console = Console(stderr=True, highlight=False)

PLAIN_INTERVAL_S = 15.0
"""Seconds between two lines of a progress that has no terminal to draw a bar on."""


def command_progress() -> Progress:
    """Return where this process reports to: the console, or nowhere if another one speaks for it."""
    return RichProgress() if IS_FIRST_PROCESS else SilentProgress()


def print_line(message: str) -> None:
    """Print one line on standard output."""
    _print(console, message)


def print_rows(rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows of text as aligned columns on standard output; unlike in a table, no value is broken up."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [f"{text:<{width}}" for text, width in zip(line, widths, strict=True)]
        print_line("  ".join(cells).rstrip())


def print_error(message: str) -> None:
    """Print one sentence on standard error, in red where there are colours."""
    _print(err_console, message, style="red")


def plain(message: str, style: str = "") -> Text:
    """Return what any terminal can print as it is.

    Square brackets in a path are no markup, and file names may hold bytes that are no UTF-8.
    """
    return Text(message.encode("utf-8", errors="replace").decode("utf-8"), style)


class RichProgress:
    """A `medssl.progress.Progress` on standard error: bars on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._bars: Bars | None = None

    def say(self, message: str) -> None:
        """Print the message."""
        _print(err_console, message)

    def warn(self, message: str) -> None:
        """Print the message after the word warning, in yellow where there are colours."""
        _print(err_console, f"Warning: {message}", style="yellow")

    @contextmanager
    def track(self, description: str, *, total: int, done: int = 0) -> Iterator[Advance]:
        """Show a bar, below those of tracks that are still open; without a terminal, print lines."""
        if not err_console.is_terminal:
            yield _PlainTrack(description, total=total, done=done)
            return
        is_outermost = self._bars is None
        bars = self._bars = self._bars or _start_bars()
        bar = bars.add_task(description, total=total, completed=done, detail="")

        def advance(steps: int = 1, *, detail: str = "") -> None:
            bars.update(bar, advance=steps, detail=detail)

        try:
            yield advance
        finally:
            if is_outermost:
                bars.stop()
                self._bars = None
            else:
                bars.remove_task(bar)


class _PlainTrack:
    """Prints ``description: done of total`` every `PLAIN_INTERVAL_S` and at the end."""

    def __init__(self, description: str, *, total: int, done: int) -> None:
        self._description = description
        self._total = total
        self._done = done
        self._printed_s = time.monotonic()

    def __call__(self, steps: int = 1, *, detail: str = "") -> None:
        self._done += steps
        now_s = time.monotonic()
        if self._done >= self._total or now_s - self._printed_s >= PLAIN_INTERVAL_S:
            self._printed_s = now_s
            count = f"{self._description}: {self._done} of {self._total}"
            _print(err_console, f"{count}  {detail}".rstrip())


def _start_bars() -> Bars:
    bars = Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        console=err_console,
    )
    bars.start()
    return bars


def _print(target: Console, message: str, *, style: str = "") -> None:
    # soft_wrap: a path that is broken over two lines can be neither clicked nor copied.
    target.print(plain(message, style), soft_wrap=True)
