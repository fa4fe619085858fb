"""What the process of a cell does before it trains: its output, its cores, and whom it does not outlive."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from evoconn_cli.grid.executor import CORES_VARIABLE, PLACE_VARIABLE
from evoconn_cli.grid.states import open_log
from evoconn_cli.runs.lock import host_name

PARENT_VARIABLE = "EVOCONN_CELL_PARENT"
"""Environment variable of `run-cell`: the process that it does not outlive; it saves and ends when that is gone."""

_PR_SET_PDEATHSIG = 1


def write_output_to_log(cell: Path) -> None:
    """Sends all that this process writes from now on to the log of its cell.

    Raises:
        RunDirectoryError: it cannot be written.
    """
    log = open_log(cell)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    print(f"== {stamp}, {place_of_process() or 'by hand'}, process {os.getpid()} on {host_name()}", flush=True)


def place_of_process() -> str:
    """Returns the device or job of this process, as the place that started it says."""
    return os.environ.get(PLACE_VARIABLE, "")


def pin_cores() -> None:
    """Keeps this process, and what JAX starts in it, on the cores that it was given; macOS cannot."""
    cores = os.environ.get(CORES_VARIABLE)
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})


def end_with_parent() -> None:
    """Lets this process be asked to save and end when the one that started it is gone; Linux alone can tell."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None:
        signal_at_death_of(int(parent), signal.SIGTERM)


def signal_at_death_of(parent: int, number: signal.Signals) -> None:
    """Lets this process get a signal when `parent`, which has started it, is gone; nothing where this is not Linux."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # gone before it could tell
        os.kill(os.getpid(), number)
