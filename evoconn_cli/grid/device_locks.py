"""Locks of devices: launchers, of one user or of several, do not use a device at the same time.

The operating system holds a lock as long as any process has its file open, so it passes from a launcher to its cells:
if a launcher is killed, its devices are free when its cells have ended.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from evoconn_cli.errors import EvoconnError


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
