"""Ctrl-C and SIGTERM as a polite request."""

import signal
import threading
from types import FrameType, TracebackType

REQUESTS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Notes that the user or the system asked the run to stop, while its context is open.

    The first signal is only noted, so that a step can be finished and saved. The second Ctrl-C acts at once;
    not so among several processes, where torchrun passes on a signal that the terminal has already sent.

    Attributes:
        is_set: True once a signal came.
    """

    def __init__(self, *, is_alone: bool = True) -> None:
        self.is_set = False
        self._is_alone = is_alone
        self._previous: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> "StopRequest":
        """Take over the signals; outside the main thread, where Python forbids it, do nothing."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in REQUESTS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.is_set and self._is_alone and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_set = True
