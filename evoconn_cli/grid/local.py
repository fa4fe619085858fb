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

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.errors import EvoconnError, ExitCode
from evoconn_cli.grid.attempts import record_end
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.devices import Device, Devices, HeldDevices
from evoconn_cli.grid.executor import ENDING, Begun, cell_command, cell_environment, pause_before_next, record_unbegun
from evoconn_cli.grid.gpus import Note
from evoconn_cli.grid.states import State, open_log, read_status
from evoconn_cli.runs.signals import Interrupts

_TICK = 0.1  # [s] between looks at the processes
_LOOK_ELSEWHERE = 5.0  # [s] between looks at cells that other processes run
_PATIENCE = 10.0  # [s] for a process to quit


class _Running(NamedTuple):
    begun: Begun
    device: Device
    process: subprocess.Popen

    @property
    def cell(self) -> Cell:
        return self.begun.cell


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
        self._left_out: dict[Cell, str] = {}

    def plan(self, cells: Sequence[Cell]) -> list[str]:
        """Returns for each of the cells the device that it would start on now, if one is left for it."""
        idle = self._devices.idle(set(), lambda _: None)
        names = [device.name for device in idle for _ in range(device.capacity)][: len(cells)]
        return names + ["next free"] * (len(cells) - len(names))

    def run(self, cells: Sequence[Cell], note: Note) -> dict[Cell, str]:
        """Runs cells until each is finished, has failed too often, or this process is asked to end.

        The first signal lets the running cells save; a second Ctrl-C quits them. Any other error leaves them running.

        Args:
            cells: that are not finished; those that run already are waited for.
            note: is told what happens.

        Returns:
            The cells that could not be run, and why.
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
                    if self._next_ready() is None:
                        held.give_back_unused()
                    time.sleep(_TICK)
                    self._take_in_ended(held, note, ending=is_ending)
            except KeyboardInterrupt:
                self._quit(held)
                raise
            finally:
                held.give_back_unused()
        return self._left_out

    def _next_ready(self) -> tuple[float, Cell] | None:
        """Returns the first entry of the cells that need not wait."""
        now = time.monotonic()
        return next((entry for entry in self._waiting if entry[0] <= now), None)

    def _start_next(self, held: HeldDevices, note: Note) -> bool:
        """Starts the first cell that is ready, if there is a device for it; returns whether there may be another."""
        ready = self._next_ready()
        if ready is None:
            return False
        cell = ready[1]
        status = read_status(cell)
        if status.state is State.RUNNING:
            self._waiting.remove(ready)
            self._elsewhere.append(cell)
            note(f"{cell.name} runs already, {status.place}: it is left alone.")
            return True
        if not status.is_due(self._launch.retries):  # another launcher was quicker
            self._waiting.remove(ready)
            return True
        device = held.take()
        if device is None:
            return False
        self._waiting.remove(ready)
        try:
            process = self._start(cell, device, held.files(device))
        except (OSError, EvoconnError) as error:
            held.leave(device)
            self._leave_out(cell, f"it cannot be started: {error}", note)
            return True
        self._running.append(_Running(Begun(cell, device.name, status.attempts, status.saved), device, process))
        note(f"{cell.name} {'resumes' if status.saved else 'starts'} on {device.name}")
        return True

    def _start(self, cell: Cell, device: Device, locks: Sequence[int]) -> subprocess.Popen:
        log = open_log(cell.path)
        try:
            return subprocess.Popen(
                cell_command(cell, self._launch, self._program),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **device.environment, **cell_environment(self._launch, device.name, device.cores)},
                start_new_session=True,  # Ctrl-C in the terminal is for the launcher, which passes it on
                pass_fds=locks,
            )
        finally:
            os.close(log)

    def _take_in_ended(self, held: HeldDevices, note: Note, *, ending: bool) -> None:
        for run in [run for run in self._running if run.process.poll() is not None]:
            self._running.remove(run)
            held.leave(run.device)
            try:
                self._record(run, ending=ending)
            except EvoconnError as error:
                self._leave_out(run.cell, str(error), note)
                continue
            self._look_at_result(run, note, ending=ending)

    def _record(self, run: _Running, *, ending: bool) -> None:
        """Records what the process could not: that it never came to begin, or was killed because it was to end."""
        code, pid = run.process.returncode, run.process.pid
        was_quit = ending and code not in (ExitCode.DONE, ExitCode.SAVED_EARLY)
        if not record_unbegun(run.begun, ExitCode.QUIT if was_quit else code, pid) and code < 0 and ending:
            record_end(run.cell.path, ExitCode.QUIT, pid)

    def _look_at_result(self, run: _Running, note: Note, *, ending: bool) -> None:
        """Says how an attempt ended, and lets the cell wait for its next one."""
        status = read_status(run.cell)
        if status.state is State.RUNNING:  # another process was quicker
            self._elsewhere += [] if ending else [run.cell]
            return
        code = run.process.returncode
        reason = f"signal {-code} ended its process" if code < 0 else ""
        pause = pause_before_next(run.begun, status, self._launch, note, ending=ending, reason=reason)
        if pause is not None:
            self._waiting.append((time.monotonic() + pause, run.cell))

    def _leave_out(self, cell: Cell, reason: str, note: Note) -> None:
        self._left_out[cell] = reason
        note(f"{cell.name} is left out: {reason}")

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
            note(ENDING)
        for run in self._running:
            with suppress(ProcessLookupError):
                run.process.send_signal(signal.SIGTERM)

    def _quit(self, held: HeldDevices) -> None:
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
            held.leave(run.device)
            with suppress(EvoconnError):
                self._record(run, ending=True)
        self._running.clear()
