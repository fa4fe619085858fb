"""The place `local`: one process a cell, on the devices of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from evoconn_cli.config.grid import LaunchConfig
from evoconn_cli.errors import ExitCode
from evoconn_cli.grid.attempts import read_attempts, record_end, record_start
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.devices import Device, Devices, Note
from evoconn_cli.grid.held_devices import HeldDevices
from evoconn_cli.grid.log import last_log_lines
from evoconn_cli.grid.places import cell_command, cell_environment
from evoconn_cli.grid.states import State, read_status
from evoconn_cli.runs.training.interrupts import Interrupts

_TICK = 0.1  # [s] between looks at the processes
_LOOK_ELSEWHERE = 5.0  # [s] between looks at cells that other processes run
_PATIENCE = 10.0  # [s] for a process to quit


class _Running(NamedTuple):
    cell: Cell
    device: Device
    process: subprocess.Popen
    attempts: int  # before this one
    saved: int  # generation at its start


class LocalPool:
    """Runs cells as processes on this machine, as many at a time as its devices have room for.

    A cell that another process runs, such as one of a launcher that was killed, is left alone until that has ended.

    Args:
        launch: how cells are run.
        devices: what they run on.
        program: as for `places.cell_command`.
        locks: folder of the locks of devices; the usual one by default.
    """

    def __init__(
        self, launch: LaunchConfig, devices: Devices, program: Sequence[str] | None = None, locks: Path | None = None
    ) -> None:
        self._launch = launch
        self._devices = devices
        self._program = program
        self._lock_folder = locks
        self._waiting: deque[tuple[float, Cell]] = deque()  # not before this time
        self._elsewhere: list[Cell] = []
        self._look_elsewhere_at = 0.0
        self._running: list[_Running] = []

    def plan(self, cells: Sequence[Cell]) -> list[str]:
        """Returns for each of the cells the device that it would start on now, if one is left for it."""
        idle = self._devices.idle(set(), lambda _: None)
        names = [device.name for device in idle for _ in range(device.capacity)][: len(cells)]
        return names + ["next free"] * (len(cells) - len(names))

    def run(self, cells: Sequence[Cell], note: Note) -> None:
        """Runs cells until each is finished, has failed too often, or this process is asked to end.

        The first signal lets the running cells save; a second Ctrl-C quits them.

        Args:
            cells: that are not finished; those that run already are waited for.
            note: is told what happens.
        """
        self._waiting.extend((0.0, cell) for cell in cells)
        held = HeldDevices(self._devices, note, self._lock_folder)
        with Interrupts() as interrupts:
            interrupts.training = True  # so that only a second Ctrl-C interrupts
            is_ending = False
            try:
                while self._waiting or self._running or self._elsewhere:
                    if interrupts.requested and not is_ending:
                        is_ending = True
                        self._ask_to_end(note)
                    self._look_elsewhere()
                    while not interrupts.requested and self._start_next(held, note):
                        pass
                    if not self._waiting:
                        held.give_back_unused()
                    time.sleep(_TICK)
                    self._take_in_ended(held, note, ending=is_ending)
            finally:
                self._quit()
                held.give_back_unused()

    def _start_next(self, held: HeldDevices, note: Note) -> bool:
        """Starts the first cell that need not wait, if there is a device for it; returns whether it did."""
        now = time.monotonic()
        ready = next((entry for entry in self._waiting if entry[0] <= now), None)
        if ready is None:
            return False
        cell = ready[1]
        status = read_status(cell)
        if status.state is State.RUNNING:
            self._waiting.remove(ready)
            self._elsewhere.append(cell)
            note(f"{cell.name} runs already, {status.place}: it is left alone.")
            return True
        device = held.take()
        if device is None:
            return False
        self._waiting.remove(ready)
        try:
            process = self._start(cell, status.log, device, held.files(device))
        except OSError as error:
            held.leave(device)
            note(f"{cell.name} cannot be started: {error}.")
            return True
        self._running.append(_Running(cell, device, process, status.attempts, status.saved))
        verb = "goes on" if status.saved else "starts"
        note(f"{cell.name} {verb} on {device.name}")
        return True

    def _start(self, cell: Cell, log_file: Path, device: Device, locks: Sequence[int]) -> subprocess.Popen:
        with log_file.open("ab") as log:
            return subprocess.Popen(
                cell_command(cell, self._launch, self._program),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **device.environment, **cell_environment(self._launch, device.name, device.cores)},
                start_new_session=True,  # Ctrl-C in the terminal is for the launcher, which passes it on
                pass_fds=locks,
            )

    def _take_in_ended(self, held: HeldDevices, note: Note, *, ending: bool) -> None:
        for run in [run for run in self._running if run.process.poll() is not None]:
            self._running.remove(run)
            held.leave(run.device)
            self._record(run, ending=ending)
            self._look_at_result(run, note, ending=ending)

    def _record(self, run: _Running, *, ending: bool) -> None:
        """Records what the process could not: that it never came to begin, or was killed because it was to end."""
        code, pid = run.process.returncode, run.process.pid
        if code == ExitCode.DONE:
            return
        if len(read_attempts(run.cell.path).attempts) == run.attempts and code != ExitCode.SAVED_EARLY:
            record_start(run.cell.path, run.device.name, run.saved, pid)
            record_end(run.cell.path, ExitCode.QUIT if ending else code, pid)
        elif code < 0 and ending:
            record_end(run.cell.path, ExitCode.QUIT, pid)

    def _look_at_result(self, run: _Running, note: Note, *, ending: bool) -> None:
        """Says how an attempt ended, and lets the cell wait for its next one."""
        cell, status = run.cell, read_status(run.cell)
        if status.state is State.FINISHED:
            note(f"{cell.name} is finished")
            return
        if status.state is State.RUNNING:  # another process was quicker
            self._elsewhere += [] if ending else [cell]
            return
        if status.state is State.FAILED:
            lines = last_log_lines(status.log, 1)
            reason = f": {lines[0]}" if lines else ""
            again = f"tried again in {self._launch.retry_pause:g} s"
            what = "not tried again" if ending or not status.is_due(self._launch.retries) else again
            note(f"{cell.name} has failed, exit code {run.process.returncode}, {what}{reason}")
        else:
            note(f"{cell.name} is saved at generation {status.saved}")
        if not ending and status.is_due(self._launch.retries):
            pause = 0.0 if status.saved > run.saved else self._launch.retry_pause
            self._waiting.append((time.monotonic() + pause, cell))

    def _look_elsewhere(self) -> None:
        """Lets cells that another process has left wait for their turn here."""
        if not self._elsewhere or time.monotonic() < self._look_elsewhere_at:
            return
        self._look_elsewhere_at = time.monotonic() + _LOOK_ELSEWHERE
        for cell in list(self._elsewhere):
            status = read_status(cell)
            if status.state is not State.RUNNING:
                self._elsewhere.remove(cell)
                if status.is_due(self._launch.retries):
                    self._waiting.append((0.0, cell))

    def _ask_to_end(self, note: Note) -> None:
        self._waiting.clear()
        self._elsewhere.clear()
        if self._running:
            note("the running cells finish their generation and save; Ctrl-C again to quit at once.")
        for run in self._running:
            with suppress(ProcessLookupError):
                run.process.send_signal(signal.SIGTERM)

    def _quit(self) -> None:
        """Ends what still runs, at once; its latest checkpoints are kept."""
        for run in self._running:
            run.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + _PATIENCE
        try:
            for run in self._running:
                run.process.wait(max(0.0, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            pass
        for run in self._running:
            if run.process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(run.process.pid, signal.SIGKILL)
                run.process.wait()
            self._record(run, ending=True)
        self._running.clear()
