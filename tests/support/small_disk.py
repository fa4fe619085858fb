"""A small file system for tests, to be filled or made read-only; it takes root."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


class Disk:
    """A small file system in memory.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, size: str) -> None:
        self.path = path
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "evoconn-test", str(path)]
        try:
            done = subprocess.run(mount, capture_output=True, text=True)
        except OSError as error:
            pytest.skip(f"mount: {error}")
        if done.returncode:
            pytest.skip(f"mounting a file system takes root: {done.stderr.strip()}")

    @property
    def free(self) -> int:
        of = os.statvfs(self.path)
        return of.f_bavail * of.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Leaves so many bytes free."""
        with (self.path / "filling").open("ab", buffering=0) as file:
            while self.free > leave:
                file.write(b"x" * min(65536, self.free - leave))

    def empty(self) -> None:
        """Frees what was filled."""
        (self.path / "filling").unlink()

    def make_read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(self.path)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.path)], check=True)
