"""The lock of a run directory, so that one process at a time trains a run."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from evoconn_cli.errors import RunBusyError, RunDirectoryError
from evoconn_cli.runs.directory import read_object

PATIENCE = 30.0  # [s] without a renewal, after which a lock of another host is free
RENEWED_EVERY = 10.0  # [s]

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
"""Errors of file systems without locks."""


def owner_of(file: Path) -> dict[str, Any] | None:
    """Returns host, pid and start time of the process that a lock file names; None if it names none.

    Raises:
        RunDirectoryError: this user may not read it.
    """
    owner = read_object(file)
    texts = owner.get("host"), owner.get("since")
    is_named = all(isinstance(text, str) and text.isprintable() for text in texts)
    return owner if is_named and isinstance(owner.get("pid"), int) else None


def living_owner(file: Path) -> dict[str, Any] | None:
    """Returns host, pid and start time of the process that trains the run; None if none does. The lock is not touched.

    A process counts if it has renewed the lock recently and, on this host, still exists. This is wrong if the clocks of
    the hosts differ by a minute or more; taking the lock does not depend on clocks.
    """
    owner = owner_of(file)
    try:
        age = time.time() - file.stat().st_mtime
    except OSError:
        return None
    if owner is None or age > 2 * PATIENCE or (owner["host"] == host_name() and not is_alive(owner["pid"])):
        return None
    return owner


def _in_words(owner: dict[str, Any] | None) -> str:
    """Returns the owner of a lock, for messages."""
    return f"process {owner['pid']} on {owner['host']}, since {owner['since']}" if owner else "another process"


def is_alive(pid: int) -> bool:
    """Returns whether this host has a process with this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def host_name() -> str:
    """Returns the name by which locks know this host."""
    return os.uname().nodename


class RunLock:
    """The lock of a run that this process has taken.

    Another host may take it over if this process is suspended for longer than `PATIENCE`.

    Args:
        file: Lock file in the run directory.
        descriptor: Its descriptor; the operating system holds the lock while it is open.
    """

    def __init__(self, file: Path, descriptor: int) -> None:
        self._file = file
        self._descriptor = descriptor
        self._owner = {"pid": os.getpid(), "host": host_name(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        with suppress(OSError):  # on a full disk the lock is held without naming its owner
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{json.dumps(self._owner)}\n".encode(), 0)

    def is_held(self) -> bool:
        """Returns whether no other process has taken it over."""
        return _is_still(self._file, self._descriptor) and owner_of(self._file) in (None, self._owner)

    def check(self) -> None:
        """Checks that this process still holds the lock.

        Raises:
            RunBusyError: another process has taken it over.
        """
        if not self.is_held():
            raise RunBusyError(
                f"the run {self._file.parent} was taken over by {_in_words(owner_of(self._file))} while this process "
                "was suspended, or its lock was removed. The training ends here and writes nothing more. Resume the "
                "run when the other process has ended."
            )

    def renew(self) -> None:
        """Shows other hosts that the owner is alive."""
        if self.is_held():
            with suppress(OSError):
                os.utime(self._descriptor)

    def release(self) -> None:
        """Releases the lock, but leaves the file alone if another process has taken it over."""
        if self.is_held():
            with suppress(OSError):
                self._file.unlink()
        os.close(self._descriptor)


@contextmanager
def run_lock(
    file: Path,
    note: Callable[[str], None],
    *,
    pause: Callable[[float], None] = time.sleep,
    renewed_every: float = RENEWED_EVERY,
) -> Iterator[RunLock]:
    """Holds the lock of a run; `file` exists while it is held.

    Args:
        file: Lock file in the run directory.
        note: Called with a message if it takes long.
        pause: Waits for a number of seconds.
        renewed_every: Time between renewals [s].

    Raises:
        RunBusyError: another process trains the run.
        RunDirectoryError: the file cannot be written.
    """
    lock = RunLock(file, _acquire(file, note, pause))
    done = threading.Event()

    def renew() -> None:
        while not done.wait(renewed_every):
            lock.renew()

    renewal = threading.Thread(target=renew, name="lock", daemon=True)
    renewal.start()
    try:
        yield lock
    finally:
        done.set()
        renewal.join()
        lock.release()


def _acquire(file: Path, note: Callable[[str], None], pause: Callable[[float], None]) -> int:
    """Returns the descriptor of the locked file."""
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunDirectoryError(f"cannot write in the run directory {file.parent}: {error.strerror}.") from None
        try:
            locks_work = _lock(descriptor, file)
            _check_owner(file, locks_work, note, pause)
            if _is_still(file, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the previous owner has just removed the file


def _lock(descriptor: int, file: Path) -> bool:
    """Takes the lock of the operating system; returns False if the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _refusal(file) from None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise RunDirectoryError(f"cannot lock {file}: {error.strerror}.") from None
    return True


def _check_owner(file: Path, locks_work: bool, note: Callable[[str], None], pause: Callable[[float], None]) -> None:
    """Refuses a lock whose owner is alive on a host, or a file system, that the lock does not cover."""
    owner = owner_of(file)
    if owner is None:
        return
    if owner["host"] == host_name():
        if not locks_work and is_alive(owner["pid"]):
            raise _refusal(file)
        return
    note(
        f"the run was trained by process {owner['pid']} on {owner['host']}, which has not released its lock. "
        f"Waiting {PATIENCE:.0f} s to see whether it still runs."
    )
    try:
        renewed = file.stat().st_mtime_ns
        for _ in range(round(PATIENCE)):
            pause(1.0)
            if file.stat().st_mtime_ns != renewed:
                raise _refusal(file)
    except FileNotFoundError:
        return  # it has been released meanwhile


def _refusal(file: Path) -> RunBusyError:
    return RunBusyError(
        f"the run {file.parent} is being trained by {_in_words(owner_of(file))}. Wait until that has ended, or end it, "
        "and then resume the run."
    )


def _is_still(file: Path, descriptor: int) -> bool:
    """Returns whether `file` is still the one that was opened."""
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
    except OSError:
        return True  # the file system is out of reach for a while
