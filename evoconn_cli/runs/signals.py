"""Ends a training early and safely: signals and `--max-time`."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")

_LOOK_EVERY = 0.1  # [s] between looks at whether a signal has come

_computations: list[threading.Event] = []

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP")
_SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


def is_computing() -> bool:
    """Returns whether something that was abandoned goes on: then the interpreter must not be taken down under it."""
    return not all(is_done.is_set() for is_done in _computations)


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

    def unless_interrupted(self, compute: Callable[[], Result]) -> Result | None:
        """Returns what `compute` returns; None if a signal asks for the end before that.

        XLA compiles for a minute without letting Python handle a signal, so a thread does that and this one waits.
        What is abandoned goes on in its thread, see `is_computing`.
        """
        if threading.current_thread() is not threading.main_thread():
            return compute()
        outcome: list[Result | BaseException] = []
        is_done = threading.Event()
        _computations.append(is_done)

        def run() -> None:
            try:
                outcome.append(compute())
            except BaseException as error:  # for the thread that waits
                outcome.append(error)
            is_done.set()

        threading.Thread(target=run, daemon=True).start()
        while not is_done.wait(_LOOK_EVERY):
            if self.requested:
                return None
        (result,) = outcome
        if isinstance(result, BaseException):
            raise result
        return result

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


PROCESS_STARTED = time.monotonic()
"""When this module was imported [s]: the commands import it first of all."""

_RECENT = 20
"""Generations whose longest the next one is expected to last at most."""

_SAVING = 5.0
"""Saving is expected to take so long until it was measured [s]."""


class Deadline:
    """Whether another generation still fits.

    Args:
        seconds: that the process may run; None for any time.
        started: when it started, by `clock`.
        clock: seconds that only ever grow.
    """

    def __init__(
        self,
        seconds: float | None = None,
        started: float = PROCESS_STARTED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._end = None if seconds is None else started + seconds
        self._clock = clock
        self._generations: deque[float] = deque(maxlen=_RECENT)
        self._saves: list[float] = []

    def generation_took(self, seconds: float) -> None:
        """Takes in how long a generation lasted [s]."""
        self._generations.append(seconds)

    def save_took(self, seconds: float) -> None:
        """Takes in how long saving lasted [s]."""
        self._saves.append(seconds)

    def is_near(self) -> bool:
        """Returns whether another generation as long as the longest recent one, and saving it, could be too long."""
        if self._end is None:
            return False
        needed = max(self._generations, default=0.0) + max(self._saves, default=_SAVING)
        return self._clock() + needed > self._end
