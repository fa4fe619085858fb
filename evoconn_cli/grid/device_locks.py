"""Locks of devices: launchers, of one user or of several, do not use a device at the same time.

The operating system holds a lock as long as any process has its file open, so it passes from a launcher to its cells:
where a launcher is killed, its devices are free when its cells have ended.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from evoconn_cli.errors import EvoconnError


def lock_folder() -> Path:
    """Returns the folder of the lock files, which all users of this machine share.

    Raises:
        EvoconnError: this machine has no folder for temporary files.
    """
    try:
        return Path(tempfile.gettempdir()) / "evoconn-devices"
    except OSError as error:
        raise EvoconnError(f"devices cannot be locked: {error.strerror}. Set TMPDIR to a folder for them.") from None


def take_locks(names: Sequence[str], folder: Path | None = None) -> list[int] | None:
    """Returns open files that hold all locks; None where another process has one of them.

    Args:
        names: of the locks.
        folder: of the lock files.

    Raises:
        EvoconnError: the files cannot be made.
    """
    folder = folder or lock_folder()
    held: list[int] = []
    try:
        _make_shared(folder)
        for name in names:
            held.append(_open(folder / f"{name}.lock"))
            fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        give_back(held)
        return None
    except OSError as error:
        give_back(held)
        raise EvoconnError(
            f"cannot lock devices in {folder}: {error.strerror}. Name another folder for temporary files in TMPDIR."
        ) from None
    return held


def give_back(held: Sequence[int]) -> None:
    """Closes files of locks; a lock is free when every process that has it open has closed it."""
    for file in held:
        os.close(file)


def _make_shared(folder: Path) -> None:
    with suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(0o1777)


def _open(file: Path) -> int:
    """Returns the open file; that of another user can be locked without being written."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(file, flags)
    except FileNotFoundError:
        pass
    try:
        made = os.open(file, flags | os.O_CREAT | os.O_EXCL)
    except FileExistsError:  # another launcher was quicker
        return os.open(file, flags)
    os.fchmod(made, 0o644)  # whatever the umask: other users lock it too
    return made
