"""Ctrl-C and SIGTERM during a training: the first ends it after the generation, the second at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """A context in which a first signal only sets `requested`, and a second raises KeyboardInterrupt.

    Args:
        notify: called with a sentence for the user at the first signal.
    """

    def __init__(self, notify: Callable[[str], None]):
        self.requested = False
        self._notify = notify
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        """Takes over the signals; elsewhere than in the main thread there is nothing to take over."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self._notify(f"{name}: this generation is finished and saved; again to quit at once.")
