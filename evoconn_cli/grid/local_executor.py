"""Runs cells as processes on the devices of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.grid import Note
from evoconn_cli.grid.cell_process import cell_command, cell_environment, start_process
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.device_locks import release, take_locks
from evoconn_cli.grid.devices import Devices, LocalDevice
from evoconn_cli.grid.scheduler import Ended, Executor

_TICK = 0.1  # [s] between looks at the processes
_LOOK_AGAIN = 30.0  # [s] between looks for devices that have become idle
_PATIENCE = 10.0  # [s] for a process to quit


class LocalExecutor(Executor):
    """Runs one process per cell, as many at a time as the devices have room for.

    Args:
        launch: How cells are run.
        devices: Devices that may be used.
        note: Shows the user what happens.
        program: Program with the command `run-cell`; this one by default.
    """

    def __init__(
        self, launch: LaunchConfig, devices: Devices, note: Note, program: Sequence[str] | None = None
    ) -> None:
        self._launch = launch
        self._devices = devices
        self._note = note
        self._program = program
        self._locks: dict[LocalDevice, list[int]] = {}  # open files of the locks that this process holds
        self._running: dict[Cell, tuple[subprocess.Popen, LocalDevice]] = {}
        self._look_at = 0.0
        self._has_noted_none = False

    def plan(self, cells: Sequence[Cell]) -> list[str]:
        """Returns the device that each of the cells would start on now, if one is left for it."""
        names = [device.name for device in self._devices.idle() for _ in range(device.capacity)][: len(cells)]
        return names + ["next free"] * (len(cells) - len(names))

    def has_room(self) -> bool:
        """Returns whether a device has room for another run, after taking idle devices if need be.

        Raises:
            EvoconnError: The locks cannot be made.
        """
        if self._with_room() is None and time.monotonic() >= self._look_at:
            self._take_idle()
        return self._with_room() is not None

    def release_unused(self) -> None:
        """Releases the devices on which nothing runs; running cells keep theirs."""
        for device in self._locks.keys() - self._num_runs():
            release(self._locks.pop(device))
            self._look_at = 0.0

    def _num_runs(self) -> Counter[LocalDevice]:
        """Returns the number of runs on each device."""
        return Counter(device for _, device in self._running.values())

    def _with_room(self) -> LocalDevice | None:
        num_runs = self._num_runs()
        free = [device for device in self._locks if num_runs[device] < device.capacity]
        return min(free, key=lambda device: num_runs[device], default=None)

    def _take_idle(self) -> None:
        """Takes every idle device; unneeded ones are released when no cell is ready."""
        self._look_at = time.monotonic() + _LOOK_AGAIN
        for device in self._devices.idle(self._locks.keys()):
            files = take_locks(device.locks)
            if files is not None:
                self._locks[device] = files
        if not self._locks and not self._has_noted_none:
            names = ", ".join(device.name for device in self._devices.all())
            self._note(f"no idle device among {names}; waiting.")
            self._has_noted_none = True

    def start(self, cell: Cell, saved: int) -> str:
        """Starts the process of a cell, and returns the name of its device."""
        device = self._with_room()
        assert device is not None, "has_room() is asked first"
        command = cell_command(cell, self._launch, self._program)
        environment = {**device.environment, **cell_environment(self._launch, device.name, device.cores)}
        process = start_process(cell, command, environment, self._locks[device])
        self._running[cell] = process, device
        self._note(f"{cell.name} {'resumes' if saved else 'starts'} on {device.name}")
        return device.name

    def wait(self) -> list[Ended]:
        """Waits a moment, and returns the attempts whose processes have ended."""
        time.sleep(_TICK)
        return [self._end(cell) for cell, (process, _) in list(self._running.items()) if process.poll() is not None]

    def ask_to_end(self, cell: Cell) -> None:
        """Sends SIGTERM to the process of a cell, which saves and ends."""
        with suppress(ProcessLookupError):
            self._running[cell][0].send_signal(signal.SIGTERM)

    def quit(self) -> list[Ended]:
        """Sends SIGINT to all processes, and SIGKILL to those that have not ended soon."""
        processes = [process for process, _ in self._running.values()]
        for process in processes:
            process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + _PATIENCE
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            for process in processes:
                process.wait(max(0.0, deadline - time.monotonic()))
        for process in processes:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return [self._end(cell) for cell in list(self._running)]

    def _end(self, cell: Cell) -> Ended:
        """Forgets a process that has ended, and returns how."""
        process, device = self._running.pop(cell)
        self._look_at = 0.0
        code = process.returncode
        return Ended(cell, code, f"signal {-code} ended its process" if code < 0 else "", process.pid)
