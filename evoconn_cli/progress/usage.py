"""Measures the processor time and the memory that this process uses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_STATM = Path("/proc/self/statm")
_INTERVAL = 1.0
"""Time over which processor time is measured [s]."""


class Usage:
    """Use of this machine by this process.

    Args:
        clock: Monotonic clock [s].
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at, self._used = clock(), time.process_time()
        self._cores: float | None = None

    def text(self) -> str:
        """Returns the cores that are busy with this process, and its memory, such as `1.9 cores, 812 MB`."""
        passed = self._clock() - self._at
        if passed >= _INTERVAL:
            used = time.process_time()
            self._cores = (used - self._used) / passed
            self._at, self._used = self._at + passed, used
        memory = _memory()
        cores = [] if self._cores is None else [f"{self._cores:.1f} cores"]
        return ", ".join([*cores, *([] if memory is None else [f"{memory / 1e6:,.0f} MB"])])


def _memory() -> int | None:
    """Returns the resident memory of this process [bytes]; None if the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None
