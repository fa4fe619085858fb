"""Processes that tests start: none of them outlives its test, and none is waited for without an end."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_started: list[subprocess.Popen] = []


def start(command: list[str], **kwargs) -> subprocess.Popen:
    """Starts a process that `kill_what_is_left` ends, if nothing else has."""
    process = subprocess.Popen(command, **kwargs)
    _started.append(process)
    return process


def kill_what_is_left() -> None:
    """Ends all processes that `start` has started."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            process.kill()
            process.wait(timeout=10)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def killed_after(process: subprocess.Popen, seconds: float = 120.0) -> Iterator[None]:
    """Kills a process unless the block ends in time, so that reading what it prints comes to an end."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
