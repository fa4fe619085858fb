"""Replacing a file in one go."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Gives `path` a new content; whoever looks, also after a crash, finds the old one or the new one.

    What stands at `path` is replaced and never written through, a symbolic link included.

    Raises:
        OSError: it cannot be written; the old content stays.
    """
    partial = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
