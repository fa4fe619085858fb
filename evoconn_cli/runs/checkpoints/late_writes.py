"""Silence about writes that end after Orbax gave up."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


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


class _IgnoreClosedLoops:
    def __init__(self, previous: Any) -> None:
        self._previous = previous

    def __call__(self, unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, RuntimeError) or str(unraisable.exc_value) != "Event loop is closed":
            self._previous(unraisable)
