"""Ends a training early and safely: on signals, before the time limit of `--max-time`, with its parent process."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")

PROCESS_STARTED = time.monotonic()
"""Time at which this module was imported, which the commands do first [s]."""

_POLL_INTERVAL = 0.1  # [s] between looks at whether a signal has come

_RECENT = 20
"""Number of recent generations; the longest of them is the estimate for the next one."""

_SAVING = 5.0
"""Estimated time to save until it has been measured [s]."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)

_computations: list[Future] = []

PARENT_VARIABLE = "EVOCONN_CELL_PARENT"
"""Environment variable of a process that does not outlive its parent: the id of that."""

_PR_SET_PDEATHSIG = 1


def is_computing() -> bool:
    """Returns whether an abandoned computation still runs, so that the interpreter must not shut down under it."""
    return not all(computation.done() for computation in _computations)


def end_with_parent() -> None:
    """Makes this process save and end when the one named by `PARENT_VARIABLE` is gone; Linux only."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None:
        signal_at_death_of(int(parent), signal.SIGTERM)


def signal_at_death_of(parent: int, number: signal.Signals) -> None:
    """Requests a signal for when `parent`, the process that started this one, is gone; Linux only."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it ended before the request
        os.kill(os.getpid(), number)


class Interrupts:
    """A context in which signals ask the training to end; it may be nested in itself.

    Attributes:
        requested: Whether a signal came, or the program asked for an end.
        by: What asked first: `signal` or `callback`.
        signal: Name of the first signal, or another reason; empty before.
        received: Number of the first signal that came; None if none did.
        notify: Called with a message for the user at the first signal; None while there is no display.
        training: Whether there is something to save; before that, Ctrl-C quits at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self.by = "signal"
        self.signal = ""
        self.received: int | None = None
        self.notify: Callable[[str], None] | None = None
        self.training = False
        self._depth = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        """Takes over the signals, if this is the main thread."""
        self._depth += 1
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Restores the signal handlers."""
        self._depth -= 1
        if self._depth == 0:
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            self._previous = {}

    def unless_interrupted(self, compute: Callable[[], Result]) -> Result | None:
        """Returns what `compute` returns; None if a signal comes first.

        XLA compiles for a minute without letting Python handle a signal, so another thread computes and this one waits.
        An abandoned computation goes on in its thread; see `is_computing`.
        """
        if threading.current_thread() is not threading.main_thread():
            return compute()
        outcome: Future[Result] = Future()
        _computations.append(outcome)

        def run() -> None:
            try:
                outcome.set_result(compute())
            except BaseException as error:  # raised by the waiting thread
                outcome.set_exception(error)

        threading.Thread(target=run).start()  # no daemon: the interpreter must not shut down under XLA
        while wait([outcome], _POLL_INTERVAL).not_done:
            if self.requested:
                return None
        return outcome.result()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        by_hand = number == signal.SIGINT
        quits, first = by_hand and (self.requested or not self.training), not self.requested
        self.requested = True
        self.signal = self.signal or ("Ctrl-C" if by_hand else signal.Signals(number).name)
        self.received = self.received or number
        if quits:
            raise KeyboardInterrupt  # if a library swallows it, the request remains
        if first and self.notify is not None:
            again = "Ctrl-C again" if by_hand else "Ctrl-C"
            what = "this generation is finished and saved" if self.training else "the run ends before training"
            self.notify(f"{self.signal}: {what}; {again} to quit at once.")


class Deadline:
    """Time limit of a process, and whether another generation still fits.

    Args:
        seconds: Time that the process may run [s]; None for no limit.
        started: Time of `clock` at which it started.
        clock: Monotonic clock [s].

    Attributes:
        end: Time of `clock` at which the limit is reached; None for no limit.
    """

    def __init__(
        self,
        seconds: float | None = None,
        started: float = PROCESS_STARTED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.end = None if seconds is None else started + seconds
        self._clock = clock
        self._generations: deque[float] = deque(maxlen=_RECENT)
        self._saves: list[float] = []

    def generation_took(self, seconds: float) -> None:
        """Notes how long a generation took [s]."""
        self._generations.append(seconds)

    def save_took(self, seconds: float) -> None:
        """Notes how long saving took [s]."""
        self._saves.append(seconds)

    def is_near(self) -> bool:
        """Returns whether a generation as long as the longest recent one, and saving it, could exceed the limit."""
        if self.end is None:
            return False
        needed = max(self._generations, default=0.0) + max(self._saves, default=_SAVING)
        return self._clock() + needed > self.end
