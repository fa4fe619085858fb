"""The lock of a run directory: one process trains a run at a time.

The operating system holds the lock (`flock`), so it is free the moment its owner is gone, however that happened. Not
every shared file system hands such locks from host to host; there the file itself tells: its owner renews it every
few seconds, and a lock of another host that is not renewed any more is free.
"""

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

RENEWED_EVERY = 10.0  # [s]
PATIENCE = 30.0  # [s] without a renewal, after which a lock of another host is free

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
"""What file systems without locks answer."""


@contextmanager
def run_lock(file: Path, note: Callable[[str], None], pause: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Holds the lock of a run; `file` exists while it is held.

    Args:
        file: in the run directory.
        note: is told why it takes long.
        pause: waits for so many seconds.

    Raises:
        RunBusyError: another process trains the run.
        RunDirectoryError: the file cannot be written.
    """
    descriptor = _acquire(file, note, pause)
    done = threading.Event()
    renewal = threading.Thread(target=_renew, args=(descriptor, done), name="lock", daemon=True)
    _write_owner(descriptor)
    renewal.start()
    try:
        yield
    finally:
        done.set()
        renewal.join()
        with suppress(OSError):
            file.unlink()
        os.close(descriptor)


def owner_of(file: Path) -> dict[str, Any] | None:
    """Returns host, pid and start of the process that a lock file names; None where there is none."""
    try:
        owner = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(owner, dict) or not isinstance(owner.get("pid"), int):
        return None
    texts = owner.get("host"), owner.get("since")
    return owner if all(isinstance(text, str) and text.isprintable() for text in texts) else None


def living_owner(file: Path) -> dict[str, Any] | None:
    """Returns host, pid and start of the process that trains the run; None where none does. The lock is not touched.

    A process counts that has renewed the lock a short while ago and, on this host, is still there. Clocks of hosts that
    differ by a minute or more mislead it; taking the lock does not depend on clocks.
    """
    owner = owner_of(file)
    try:
        age = time.time() - file.stat().st_mtime
    except OSError:
        return None
    if owner is None or age > 2 * PATIENCE or (owner["host"] == _host() and not is_alive(owner["pid"])):
        return None
    return owner


def is_alive(pid: int) -> bool:
    """Returns whether this host has a process with a number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _acquire(file: Path, note: Callable[[str], None], pause: Callable[[float], None]) -> int:
    """Returns the descriptor of the lock file, whose lock is held as long as it is open."""
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunDirectoryError(f"cannot write in the run directory {file.parent}: {error.strerror}.") from None
        try:
            locks_work = _lock(descriptor, file)
            if not _is_still(file, descriptor):
                os.close(descriptor)  # its owner has just removed it
                continue
            _check_owner(file, locks_work, note, pause)
        except BaseException:
            with suppress(OSError):
                os.close(descriptor)
            raise
        return descriptor


def _lock(descriptor: int, file: Path) -> bool:
    """Takes the lock of the operating system; returns whether the file system has such locks."""
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
    """Refuses a lock whose owner lives, where the operating system did not know."""
    owner = owner_of(file)
    if owner is None:
        return
    if owner["host"] == _host():
        if not locks_work and is_alive(owner["pid"]):
            raise _refusal(file)
        return
    note(
        f"the run was trained by process {owner['pid']} on {owner['host']}, which has not closed it. "
        f"Waiting {PATIENCE:.0f} s to see whether it still runs."
    )
    renewed = file.stat().st_mtime_ns
    for _ in range(round(PATIENCE)):
        pause(1.0)
        if file.stat().st_mtime_ns != renewed:
            raise _refusal(file)


def _refusal(file: Path) -> RunBusyError:
    owner = owner_of(file)
    who = f"process {owner['pid']} on {owner['host']}, since {owner['since']}" if owner else "another process"
    return RunBusyError(
        f"the run {file.parent} is being trained by {who}. Wait until it has ended, or end it: the run can then be "
        "resumed."
    )


def _write_owner(descriptor: int) -> None:
    owner = {"pid": os.getpid(), "host": _host(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with suppress(OSError):  # a full disk: the lock itself is held all the same
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{json.dumps(owner)}\n".encode(), 0)


def _renew(descriptor: int, done: threading.Event) -> None:
    while not done.wait(RENEWED_EVERY):
        with suppress(OSError):
            os.utime(descriptor)


def _is_still(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _host() -> str:
    return os.uname().nodename
