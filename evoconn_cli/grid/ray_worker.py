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
from evoconn_cli.grid.cell_process import PARENT_VARIABLE, signal_at_death_of
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.device_locks import give_back, take_locks
from evoconn_cli.grid.devices import CoreGroups, Device, memory_variables
from evoconn_cli.grid.executor import PROGRAM, PYTHON, cell_command, cell_environment
from evoconn_cli.grid.states import open_log

_GUARD = (*PYTHON, "-m", "evoconn_cli.grid.ray_worker")

_TICK = 0.1
"""Between looks at the process, and whether Ray has cancelled it [s]."""


def run_on_node(
    cell: Cell,
    launch: LaunchConfig,
    on_gpu: bool,
    program: Sequence[str] | None = None,
    working_directory: str | None = None,
) -> int:
    """Returns the exit code of `run-cell`, which is asked to save when Ray cancels this task or this process is gone.

    Args:
        cell: to run; its directory is on a file system that all nodes share.
        launch: how it is run.
        on_gpu: whether Ray has given this process a GPU; without, the cell is kept on cores that no other has.
        program: the command line; that of this node by default.
        working_directory: Directory to run in, if this node has it; that of Ray's worker otherwise.
    """
    device, locks = (None, []) if on_gpu else _take_cores(launch.cores_per_run)
    place = f"ray, gpu {os.environ.get('CUDA_VISIBLE_DEVICES', '?')}" if on_gpu else f"ray, {_name(device)}"
    environment = {
        **os.environ,
        **(memory_variables(launch.runs_per_device) if on_gpu else {}),
        **(device.environment if device else {}),
        **cell_environment(launch, place, device.cores if device else ()),
    }
    with _cancellations() as cancelled:
        try:
            log = open_log(cell.path)
            try:
                process = subprocess.Popen(
                    [*_GUARD, str(os.getpid()), *cell_command(cell, launch, program or PROGRAM)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    cwd=working_directory if working_directory and os.path.isdir(working_directory) else None,
                    start_new_session=True,
                    pass_fds=locks,
                )
            finally:
                os.close(log)
        finally:
            give_back(locks)
        return _wait(process, cancelled)


@contextmanager
def _cancellations() -> Iterator[list[int]]:
    """Notes the interrupts with which Ray cancels, instead of raising them wherever this process happens to be."""
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def _wait(process: subprocess.Popen, cancelled: list[int]) -> int:
    """Returns the exit code when the process has ended; cancellations are passed on to it."""
    while process.poll() is None:
        if cancelled:
            cancelled.clear()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        time.sleep(_TICK)
    return process.returncode


def _take_cores(cores_per_run: int) -> tuple[Device | None, list[int]]:
    """Returns cores that no other cell is kept on, and the open files of their locks; none where all are taken."""
    groups = CoreGroups(cores_per_run)
    for group in groups.all():
        locks = take_locks(group.locks)
        if locks is not None:
            return group, locks
    return None, []


def _name(device: Device | None) -> str:
    return device.name if device else "any cores"


def main(arguments: Sequence[str]) -> int:
    """Runs the command, and returns its exit code."""
    worker, *command = arguments
    signal_at_death_of(int(worker), signal.SIGKILL)
    signal.signal(signal.SIGTERM, lambda *_: None)  # it is for the cell, which is in the same group of processes
    environment = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    return subprocess.call(command, env=environment, close_fds=False)  # the locks of its cores go to the cell


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
