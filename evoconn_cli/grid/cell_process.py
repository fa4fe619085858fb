"""The process of a cell: its command, environment and log, and what it does before it trains."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.config.plugins import to_load
from evoconn_cli.config.registry import PLUGINS_VARIABLE
from evoconn_cli.errors import RunDirectoryError
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.states import LOG_FILE
from evoconn_cli.runs.lock import host_name

PLACE_VARIABLE = "EVOCONN_CELL_PLACE"
"""Environment variable of `run-cell`: its device or job, as the status table shows it."""

CORES_VARIABLE = "EVOCONN_CELL_CORES"
"""Environment variable of `run-cell`: the cores that it may run on, such as `0,1`; unset for all."""

PYTHON = (sys.executable, "-P")
"""Starts Python without the working directory on its module path, whatever files are in it."""

PROGRAM = (*PYTHON, "-m", "evoconn_cli")


# What the launcher does


def cell_command(
    cell: Cell, launch: LaunchConfig, program: Sequence[str] | None = None, plugins: Sequence[str] | None = None
) -> list[str]:
    """Returns the command that starts or resumes a cell.

    Args:
        cell: Cell to run.
        launch: How cells are run.
        program: Program with the command `run-cell`; `PROGRAM` by default.
        plugins: Plug-ins to load; those that this process was given by default.
    """
    limit = ["--max-time", launch.time_limit] if launch.time_limit else []
    loads = [f"--plugin={plugin}" for plugin in (to_load() if plugins is None else plugins)]
    return [*(program or PROGRAM), "run-cell", str(cell.path.absolute()), *limit, *loads]


def cell_environment(launch: LaunchConfig, place: str, cores: Sequence[int] = ()) -> dict[str, str]:
    """Returns the environment variables of that command, in addition to the inherited ones.

    Its plug-ins are options: what the variable of the launcher names may be relative to another directory.
    """
    pinned = {CORES_VARIABLE: ",".join(map(str, cores))} if cores else {}
    return {**launch.environment, PLACE_VARIABLE: place, PLUGINS_VARIABLE: "", **pinned}


def start_process(
    cell: Cell, command: Sequence[str], environment: Mapping[str, str], locks: Sequence[int], *, cwd: str | None = None
) -> subprocess.Popen:
    """Returns a new process whose output goes to the log of its cell.

    It has a session of its own: Ctrl-C in the terminal is for the launcher, which passes it on.

    Args:
        cell: Cell that the process runs.
        command: Command line.
        environment: Variables in addition to the inherited ones.
        locks: Open files of device locks, which the process keeps open.
        cwd: Working directory; the current one by default.

    Raises:
        OSError: The process cannot be started.
        RunDirectoryError: The log cannot be written.
    """
    log = open_log(cell.path)
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            cwd=cwd,
            start_new_session=True,
            pass_fds=locks,
        )
    finally:
        os.close(log)


def open_log(cell: Path) -> int:
    """Returns a file descriptor that appends to the log of the cell in the directory `cell`.

    Raises:
        RunDirectoryError: The log cannot be written, or is a symbolic link.
    """
    log = cell / LOG_FILE
    try:
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        reason = "it is a symbolic link" if log.is_symlink() else error.strerror
        raise RunDirectoryError(f"cannot write {log}: {reason}.") from None


# What `run-cell` does


def write_output_to_log(cell: Path) -> None:
    """Sends all further output of this process to the log of its cell.

    Raises:
        RunDirectoryError: The log cannot be written.
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
    """Returns the device or job of this process; empty if it was started by hand."""
    return os.environ.get(PLACE_VARIABLE, "")


def pin_cores() -> None:
    """Restricts this process, and the threads of JAX, to the cores it was given; does nothing on macOS."""
    cores = os.environ.get(CORES_VARIABLE)
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
