"""Aborts of JAX's runtime: it ends a process that has lost the others with SIGABRT and a stack trace.

The signal is raised by the thread that gives up, which is sound enough to tell the user what that means. Python's own
handlers would come too late: they run in the main thread, which may be in the middle of a computation.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)
_installed: list[object] = []
"""What C calls must not be collected."""


def explain_aborts(exit_code: int, explain: Callable[[], str]) -> None:
    """Has this process end with `exit_code` and what `explain` returns where it would end with SIGABRT."""

    def end(_: int) -> None:
        try:
            os.write(2, f"Error: {explain()}\n".encode())
        finally:
            os._exit(exit_code)

    handler = _HANDLER(end)
    _installed.append(handler)
    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes, set_handler.restype = [ctypes.c_int, _HANDLER], ctypes.c_void_p
    set_handler(signal.SIGABRT, handler)
