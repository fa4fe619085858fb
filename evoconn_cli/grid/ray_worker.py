"""Runs one cell on a node of Ray, as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.grid.cell_process import PYTHON, cell_command, cell_environment, start_process
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.device_locks import release, take_locks
from evoconn_cli.grid.devices import CoreGroups, LocalDevice, memory_variables
from evoconn_cli.runs.signals import PARENT_VARIABLE, signal_at_death_of

GUARD = (*PYTHON, "-m", "evoconn_cli.grid.ray_worker")
"""Runs the command of a cell, and does not outlive Ray's worker."""

_TICK = 0.1  # [s] between looks at the process and at cancellations


def run_on_node(
    cell: Cell,
    launch: LaunchConfig,
    *,
    on_gpu: bool,
    program: Sequence[str] | None = None,
    plugins: Sequence[str] = (),
    working_directory: str | None = None,
) -> int:
    """Returns the exit code of `run-cell`, which saves and ends when Ray cancels this task or this process is gone.

    Args:
        cell: Cell to run; its directory is on a file system that all nodes share.
        launch: How cells are run.
        on_gpu: Whether Ray gave this process a GPU; if not, the cell gets cores that no other cell uses.
        program: Program with the command `run-cell`; that of this node by default.
        plugins: Plug-ins of the launcher, which the cell loads; files are on a file system that all nodes share.
        working_directory: Directory to run in if this node has it; that of Ray's worker otherwise.
    """
    if on_gpu:
        name, memory = f"gpu {os.environ.get('CUDA_VISIBLE_DEVICES', '?')}", memory_variables(launch.runs_per_device)
        device, locks = LocalDevice(name, (), memory), []
    else:
        device, locks = _take_cores(launch.cores_per_run)
    command = [*GUARD, str(os.getpid()), *cell_command(cell, launch, program, plugins)]
    environment = {**device.environment, **cell_environment(launch, f"ray, {device.name}", device.cores)}
    cwd = working_directory if working_directory and os.path.isdir(working_directory) else None
    with _cancellations() as cancelled:
        try:
            process = start_process(cell, command, environment, locks, cwd=cwd)
        finally:
            release(locks)
        return _wait(process, cancelled)


@contextmanager
def _cancellations() -> Iterator[list[int]]:
    """Collects the interrupts with which Ray cancels, instead of raising them anywhere in this process."""
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def _wait(process: subprocess.Popen, cancelled: list[int]) -> int:
    """Returns the exit code once the process has ended; passes cancellations on to it."""
    while process.poll() is None:
        if cancelled:
            cancelled.clear()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        time.sleep(_TICK)
    return process.returncode


def _take_cores(cores_per_run: int) -> tuple[LocalDevice, list[int]]:
    """Returns cores that no other cell uses, and the open files of their locks; any cores if all are in use."""
    for group in CoreGroups(cores_per_run).all():
        locks = take_locks(group.locks)
        if locks is not None:
            return group, locks
    return LocalDevice("any cores", ()), []


def main(arguments: Sequence[str]) -> int:
    """Runs a command that does not outlive Ray's worker, and returns its exit code.

    Args:
        arguments: Process id of the worker, then the command.
    """
    worker, *command = arguments
    signal_at_death_of(int(worker), signal.SIGKILL)
    signal.signal(signal.SIGTERM, lambda *_: None)  # it is for the cell, which is in the same process group
    environment = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    return subprocess.call(command, env=environment, close_fds=False)  # the cell keeps the locks of its cores


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
