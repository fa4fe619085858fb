"""Files that are written whole or not at all, and whether their places can be written."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from evoconn_cli.errors import ConfigError, EvoconnError


def check_output(path: Path, option: str, suffixes: Sequence[str] = ()) -> None:
    """Checks that the file `path` can be written later.

    Args:
        path: the file.
        option: that asked for it, for messages.
        suffixes: the formats that are known, such as `.png`; any where empty.

    Raises:
        ConfigError: an unknown format, a directory in the way, a place that cannot be written.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise ConfigError(
            f"{option} {path}: unknown format {path.suffix!r}. End the name with {' or '.join(suffixes)}."
        )
    if os.path.isdir(path):
        raise ConfigError(f"{option} {path}: that is a directory. Name a file.")
    if problem := place_problem(path):
        raise ConfigError(f"{option} {path}: {problem}. Name another place.")


def place_problem(path: Path) -> str | None:
    """Returns why nothing can be written at `path`, in words; None where it can, missing directories made."""
    # What may not be looked at is as if it did not exist, and what is above it says why.
    parent = next(parent for parent in path.absolute().parents if os.path.exists(parent))
    if not parent.is_dir():
        return f"{parent} is a file, not a directory"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"no permission to write in {parent}"
    return None


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to, whose file becomes `path` at the end; its directory is made if missing.

    Raises:
        EvoconnError: it cannot be written.
    """
    partial = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()  # so that a place which cannot be written is named before any work
        yield partial
        partial.replace(path)
    except OSError as error:
        raise EvoconnError(f"{path} cannot be written: {error.strerror or error}. Name another place.") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


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
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
