"""Whose the lock of a run is, by what its file says."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from evoconn_cli.errors import RunDirectoryError

PATIENCE = 30.0  # [s] without a renewal, after which a lock of another host is free


def owner_of(file: Path) -> dict[str, Any] | None:
    """Returns host, pid and start of the process that a lock file names; None if it names none.

    Raises:
        RunDirectoryError: this user may not read it.
    """
    try:
        owner = json.loads(file.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise RunDirectoryError(f"cannot read {file}: {error.strerror}.") from None
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
    if owner is None or age > 2 * PATIENCE or (owner["host"] == host_name() and not is_alive(owner["pid"])):
        return None
    return owner


def in_words(owner: dict[str, Any] | None) -> str:
    """Returns the owner of a lock in words."""
    return f"process {owner['pid']} on {owner['host']}, since {owner['since']}" if owner else "another process"


def is_alive(pid: int) -> bool:
    """Returns whether this host has a process with a number."""
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
