"""The devices that a launcher holds, and the runs on each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from evoconn_cli.grid.device_locks import give_back, take_locks
from evoconn_cli.grid.devices import Device, Devices, Note

_LOOK_AGAIN = 30.0  # [s] between looks for devices that have become idle


class HeldDevices:
    """Devices whose locks this process has.

    Args:
        devices: of this machine.
        note: is told what the user has to know.
        locks: folder of the lock files; the usual one by default.
        clock: seconds that only ever grow.
    """

    def __init__(
        self, devices: Devices, note: Note, locks: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._devices = devices
        self._note = note
        self._folder = locks
        self._clock = clock
        self._locks: dict[Device, list[int]] = {}
        self._runs: Counter[Device] = Counter()
        self._look_at = 0.0
        self._has_said_none = False

    def take(self) -> Device | None:
        """Returns a device with room for another run, which counts from now on; None where all are busy."""
        device = self._with_room()
        if device is None and self._clock() >= self._look_at:
            self._take_idle()
            device = self._with_room()
        if device is not None:
            self._runs[device] += 1
        return device

    def files(self, device: Device) -> list[int]:
        """Returns the open files of the locks of a device, for the process that runs on it."""
        return self._locks[device]

    def leave(self, device: Device) -> None:
        """Says that a run on a device has ended."""
        self._runs[device] -= 1
        self._look_at = 0.0

    def give_back_unused(self) -> None:
        """Lets others have the devices on which nothing runs."""
        for device in [device for device in self._locks if not self._runs[device]]:
            give_back(self._locks.pop(device))
            self._look_at = 0.0

    def _with_room(self) -> Device | None:
        free = [device for device in self._locks if self._runs[device] < device.capacity]
        return min(free, key=lambda device: self._runs[device], default=None)

    def _take_idle(self) -> None:
        """Takes every idle device; those that are not needed are given back when no cell is ready."""
        self._look_at = self._clock() + _LOOK_AGAIN
        for device in self._devices.idle(self._locks.keys(), self._note):
            files = take_locks(device.locks, self._folder)
            if files is not None:
                self._locks[device] = files
        if not self._locks and not self._has_said_none:
            names = ", ".join(device.name for device in self._devices.all())
            self._note(f"nothing is idle here, so the cells wait: {names}.")
            self._has_said_none = True
