"""Files that are written whole or not at all, and whether their places can be written."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import sys
import tempfile
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
    if is_special(path):
        mode = os.stat(path).st_mode
        if _own_stream(path) is not None:
            return None
        if not stat.S_ISFIFO(mode) and not stat.S_ISCHR(mode):
            return f"{path} is neither a file nor a pipe"
        return None if os.access(path, os.W_OK) else f"no permission to write to {path}"
    # What may not be looked at is as if it did not exist, and what is above it says why.
    parent = next(parent for parent in Path(os.path.realpath(path)).parents if os.path.exists(parent))
    if not parent.is_dir():
        return f"{parent} is a file, not a directory"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"no permission to write in {parent}"
    return None


def is_special(path: Path) -> bool:
    """Returns whether `path` is written to and not replaced: a device, a pipe, or what this process prints to."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    if stat.S_ISREG(mode):
        return _own_stream(path) is not None
    return not stat.S_ISDIR(mode)


def in_a_run(path: Path) -> Path:
    """Returns `path`, the place of a file in a run directory that the user has not named; a link there is removed.

    A link that the user named is followed, but a run may come from others.

    Raises:
        EvoconnError: it cannot be removed.
    """
    if os.path.islink(path) and not os.path.isdir(path):
        try:
            path.unlink()
        except OSError as error:
            raise EvoconnError(f"{path} is a symbolic link, which cannot be removed: {error.strerror}.") from None
    return path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to, whose file becomes `path` at the end; its directory is made if missing.

    Raises:
        EvoconnError: it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            if is_special(path):
                place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            else:
                place = Path(os.path.realpath(path)).parent
                place.mkdir(parents=True, exist_ok=True)
            partial = place / f".{path.stem}-{secrets.token_hex(4)}.partial{path.suffix}"
            stack.callback(_delete, partial)
            partial.touch(0o600 if os.path.exists(path) else 0o666)  # a place that cannot be written is named at once
            yield partial
            put_in_place(partial, path)
        except OSError as error:
            raise EvoconnError(f"{path} cannot be written: {error.strerror or error}. Name another place.") from error


def put_in_place(whole: Path, path: Path) -> None:
    """Moves the file `whole` to `path`.

    Links are followed, a file that is replaced leaves its mode and owner, and what is special is written to.

    Raises:
        OSError: it cannot be written.
    """
    if is_special(path):
        _write_through(whole, path)
        whole.unlink()
        return
    target = os.path.realpath(path)
    if os.path.isfile(target) and whole.is_file():
        _take_rights(whole, os.stat(target))
    try:
        whole.replace(target)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EXDEV):
            raise
        shutil.copyfile(whole, target)  # a file that is a mount of its own, as in containers, or a link to another disk
        whole.unlink()


def _own_stream(path: Path) -> int | None:
    """Returns 1 or 2 if `path` is what this process prints to, as /dev/stdout is; None otherwise."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(path), os.fstat(number)):
                return number
    return None


def _write_through(whole: Path, path: Path) -> None:
    """Writes the content of a file to what is at `path`; a reader that has seen enough is no failure."""
    number = _own_stream(path)
    if number is not None:
        (sys.stdout if number == 1 else sys.stderr).flush()
    with contextlib.suppress(BrokenPipeError), whole.open("rb") as content:
        with open(path if number is None else os.dup(number), "wb") as file:
            shutil.copyfileobj(content, file)


def _take_rights(path: Path, old: os.stat_result) -> None:
    """Gives the file `path` the owner, where that is allowed, and the mode of an `old` one."""
    with contextlib.suppress(OSError):
        os.chown(path, old.st_uid, old.st_gid)
    os.chmod(path, stat.S_IMODE(old.st_mode))


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def replace_text(path: Path, text: str) -> None:
    """Gives `path` a new content; whoever looks, also after a crash, finds the old one or the new one.

    What stands at `path` is replaced and never written through, a symbolic link included. A file leaves its mode and
    owner to the new one.

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
        if path.is_file() and not path.is_symlink():
            _take_rights(partial, path.stat())
        partial.replace(path)
    except BaseException:
        _delete(partial)
        raise
