"""Locks of devices: launchers, of one user or of several, do not use a device at the same time.

The operating system holds a lock as long as any process has its file open, so it passes from a launcher to its cells:
if a launcher is killed, its devices are free when its cells have ended.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from evoconn_cli.errors import EvoconnError
from evoconn_cli.grid import Note
from evoconn_cli.grid.devices import Devices, LocalDevice

_LOOK_AGAIN = 30.0  # [s] between looks for devices that have become idle


class HeldDevices:
    """Devices whose locks this process holds, and how many runs are on each.

    Args:
        devices: Devices of this machine that may be used.
        note: Shows the user that no device is idle.
    """

    def __init__(self, devices: Devices, note: Note) -> None:
        self._devices = devices
        self._note = note
        self._locks: dict[LocalDevice, list[int]] = {}
        self._runs: Counter[LocalDevice] = Counter()
        self._look_at = 0.0
        self._has_noted_none = False

    def has_room(self) -> bool:
        """Returns whether a device has room for another run, after taking idle devices if need be.

        Raises:
            EvoconnError: The locks cannot be made.
        """
        if self._with_room() is None and time.monotonic() >= self._look_at:
            self._take_idle()
        return self._with_room() is not None

    def take(self) -> LocalDevice | None:
        """Returns a device with room for another run, which counts from now on; None if all are busy.

        Raises:
            EvoconnError: The locks cannot be made.
        """
        device = self._with_room() if self.has_room() else None
        if device is not None:
            self._runs[device] += 1
        return device

    def files(self, device: LocalDevice) -> list[int]:
        """Returns the open files of the locks of a device, to pass to the process that runs on it."""
        return self._locks[device]

    def leave(self, device: LocalDevice) -> None:
        """Counts one run less on a device."""
        self._runs[device] -= 1
        self._look_at = 0.0

    def release_unused(self) -> None:
        """Releases the devices on which nothing runs."""
        for device in [device for device in self._locks if not self._runs[device]]:
            release(self._locks.pop(device))
            self._look_at = 0.0

    def _with_room(self) -> LocalDevice | None:
        free = [device for device in self._locks if self._runs[device] < device.capacity]
        return min(free, key=lambda device: self._runs[device], default=None)

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


def take_locks(names: Sequence[str]) -> list[int] | None:
    """Returns open files that hold all locks; None if another process holds one of them.

    Args:
        names: Names of the locks.

    Raises:
        EvoconnError: The files cannot be made.
    """
    folder = lock_folder()
    held: list[int] = []
    try:
        with suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(0o1777)  # all users of this machine share it
        for name in names:
            held.append(_open(folder / f"{name}.lock"))
            fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        release(held)
        return None
    except OSError as error:
        release(held)
        raise EvoconnError(
            f"cannot lock devices in {folder}: {error.strerror}. Set TMPDIR to another folder for temporary files."
        ) from None
    return held


def release(held: Sequence[int]) -> None:
    """Closes files of locks; a lock is free when every process that has its file open has closed it."""
    for file in held:
        os.close(file)


def lock_folder() -> Path:
    """Returns the folder of the lock files, which all users of this machine share.

    Raises:
        EvoconnError: This machine has no folder for temporary files.
    """
    try:
        return Path(tempfile.gettempdir()) / "evoconn-devices"
    except OSError as error:
        raise EvoconnError(
            f"cannot lock devices: {error.strerror}. Set TMPDIR to a folder for temporary files."
        ) from None


def _open(file: Path) -> int:
    """Returns an open file, made if need be; files of other users can be locked without being writable."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        return os.open(file, flags)
    try:
        made = os.open(file, flags | os.O_CREAT | os.O_EXCL)
    except FileExistsError:  # another launcher was quicker
        return os.open(file, flags)
    os.fchmod(made, 0o644)  # whatever the umask: other users lock it too
    return made
