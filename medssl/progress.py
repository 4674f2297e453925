"""How long work tells whoever started it what it is doing, without printing.

Only the command line prints. Everything below it is handed a `Progress` and speaks to that.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Moves a progress bar on."""

    def __call__(self, steps: int = 1, *, detail: str = "") -> None:
        """Count ``steps`` more as done and show ``detail`` beside the bar."""


class Progress(Protocol):
    """Where a workflow reports to."""

    def say(self, message: str) -> None:
        """Tell the user one finished fact."""

    def warn(self, message: str) -> None:
        """Tell the user one fact that may need their attention."""

    def track(self, description: str, *, total: int, done: int = 0) -> AbstractContextManager[Advance]:
        """Show a progress bar from ``done`` to ``total`` while the context is open."""


class SilentProgress:
    """A `Progress` that says nothing: for library use and tests."""

    def say(self, message: str) -> None:
        """Drop the message."""

    def warn(self, message: str) -> None:
        """Drop the message."""

    @contextmanager
    def track(self, description: str, *, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
        """Yield an advance function that shows nothing."""
        yield lambda steps=1, *, detail="": None
