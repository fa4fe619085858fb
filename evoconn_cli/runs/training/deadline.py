"""`--max-time`: ending a training before the scheduler does.

It is an option of the command and no key of the configuration: it belongs to a process on one machine, not to the
run, which goes on with another limit or none.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

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
