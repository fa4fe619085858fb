"""Writes that end after Orbax gave up: they make directories anew, and Python prints what nobody can use."""

from __future__ import annotations

import logging
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

_QUIET, _PATIENCE, _PAUSE = 0.5, 5.0, 0.01
"""[s] For how long nothing may come back to be gone, when removing is given up, and between looks."""


@contextmanager
def late_writes_ignored() -> Iterator[None]:
    """Keeps Python from printing what is of no use to anybody once one of several writes has failed.

    Orbax writes all arrays at once and closes its event loop at the first failure. TensorStore reports the other ones
    to that loop, from threads of its own, asyncio those that nobody asked for, and Python writes that never began; all
    perhaps a while later, so after a failure this stays in force.
    """
    previous = sys.unraisablehook
    if isinstance(previous, _IgnoreClosedLoops):
        yield
        return
    filters = ExitStack()
    filters.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", r"coroutine .* was never awaited", RuntimeWarning)
    logger = logging.getLogger("asyncio")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = _IgnoreClosedLoops(previous)
    yield
    sys.unraisablehook = previous
    logger.setLevel(level)
    filters.close()


def remove_for_good(path: Path) -> None:
    """Removes the directory of a checkpoint of which one of several writes has failed.

    TensorStore makes the directories of a file that it is about to write, and so brings back one that is gone. What
    still comes after some seconds stays.
    """
    start = quiet_since = time.monotonic()
    while (now := time.monotonic()) - quiet_since < _QUIET and now - start < _PATIENCE:
        if path.exists():
            shutil.rmtree(path, ignore_errors=True)
            quiet_since = now
        time.sleep(_PAUSE)


class _IgnoreClosedLoops:
    def __init__(self, previous: Any) -> None:
        self._previous = previous

    def __call__(self, unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, RuntimeError) or str(unraisable.exc_value) != "Event loop is closed":
            self._previous(unraisable)
