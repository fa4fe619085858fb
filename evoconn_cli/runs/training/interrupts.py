"""Signals during a training: they end it after the generation, with all that was learnt saved.

Ctrl-C, and what schedulers send before they take a machine away: SIGTERM, SIGUSR1, SIGUSR2, and SIGHUP where the
terminal is closed. Only a second Ctrl-C quits at once: schedulers send several signals in a row and mean one thing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP")
_SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


class Interrupts:
    """A context in which signals ask for the end of a training; it may be entered again inside itself.

    Attributes:
        requested: whether a signal came.
        notify: called with a sentence for the user at the first signal; None as long as there is nobody to tell.
        training: whether there is something to save; before, Ctrl-C quits at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self.notify: Callable[[str], None] | None = None
        self.training = False
        self._depth = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        """Takes over the signals; elsewhere than in the main thread there is nothing to take over."""
        self._depth += 1
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the signals back."""
        self._depth -= 1
        if self._depth == 0:
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            self._previous = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        by_hand = number == signal.SIGINT
        quits, first = by_hand and (self.requested or not self.training), not self.requested
        self.requested = True
        if quits:
            raise KeyboardInterrupt  # where a library swallows it, the request remains
        if first and self.notify is not None:
            name = "Ctrl-C" if by_hand else signal.Signals(number).name
            again = "Ctrl-C again" if by_hand else "Ctrl-C"
            what = "this generation is finished and saved" if self.training else "the run ends before it has trained"
            self.notify(f"{name}: {what}; {again} to quit at once.")
