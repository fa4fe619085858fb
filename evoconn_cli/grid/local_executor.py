"""Runs cells as processes on the devices of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.grid import Note
from evoconn_cli.grid.cell_process import cell_command, cell_environment, start_process
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.device_locks import HeldDevices
from evoconn_cli.grid.devices import Devices, LocalDevice
from evoconn_cli.grid.scheduler import Ended, Executor

_TICK = 0.1  # [s] between looks at the processes
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
        self._held = HeldDevices(devices, note)
        self._running: dict[Cell, tuple[subprocess.Popen, LocalDevice]] = {}

    def plan(self, cells: Sequence[Cell]) -> list[str]:
        """Returns the device that each of the cells would start on now, if one is left for it."""
        names = [device.name for device in self._devices.idle() for _ in range(device.capacity)][: len(cells)]
        return names + ["next free"] * (len(cells) - len(names))

    def has_room(self) -> bool:
        """Returns whether a device has room for another run; takes idle devices if need be."""
        return self._held.has_room()

    def release_unused(self) -> None:
        """Releases the devices on which nothing runs; running cells keep theirs."""
        self._held.release_unused()

    def start(self, cell: Cell, saved: int) -> str:
        """Starts the process of a cell, and returns the name of its device."""
        device = self._held.take()
        assert device is not None, "has_room() is asked first"
        command = cell_command(cell, self._launch, self._program)
        environment = {**device.environment, **cell_environment(self._launch, device.name, device.cores)}
        try:
            process = start_process(cell, command, environment, self._held.files(device))
        except BaseException:
            self._held.leave(device)
            raise
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
        self._held.leave(device)
        code = process.returncode
        return Ended(cell, code, f"signal {-code} ended its process" if code < 0 else "", process.pid)
