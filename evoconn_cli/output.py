"""Writes files atomically, and checks beforehand whether they can be written."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import re
import shutil
import signal
import stat
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from evoconn_cli.errors import ConfigError, EvoconnError

_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

_LONGEST_STEM = 25
"""Characters that a partial file takes from the final name, so that its own name is never too long."""


def check_output(path: Path, option: str, suffixes: Sequence[str] = ()) -> None:
    """Checks that the file `path` can be written later.

    Args:
        path: File to write.
        option: Option that named it, for messages.
        suffixes: Known formats, such as `.png`; empty for any.

    Raises:
        ConfigError: The format is unknown, the path is a directory, or its place cannot be written.
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
    """Returns why nothing can be written at `path`, in words; None if it can, after making missing directories."""
    if is_special(path):
        mode = os.stat(path).st_mode
        if _own_stream(path) is not None:
            return None
        if not stat.S_ISFIFO(mode) and not stat.S_ISCHR(mode):
            return f"{path} is neither a file nor a pipe"
        return None if os.access(path, os.W_OK) else f"no permission to write to {path}"
    try:
        os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return (error.strerror or str(error)).lower()
    # A path that may not be read counts as missing; its parent tells why.
    parent = next(parent for parent in Path(os.path.realpath(path)).parents if os.path.exists(parent))
    if not parent.is_dir():
        return f"{parent} is a file, not a directory"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"no permission to write in {parent}"
    return None


def is_special(path: Path) -> bool:
    """Returns whether `path` is written to instead of replaced: a device, a pipe, or the output of this process."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    if stat.S_ISREG(mode):
        return _own_stream(path) is not None
    return not stat.S_ISDIR(mode)


def in_a_run(path: Path) -> Path:
    """Returns `path`, the default place of a file in a run directory, after removing a symbolic link there.

    Links that the user names are followed, but a run may come from someone else.

    Raises:
        EvoconnError: The link cannot be removed.
    """
    if os.path.islink(path) and not os.path.isdir(path):
        try:
            path.unlink()
        except OSError as error:
            raise EvoconnError(f"{path} is a symbolic link, which cannot be removed: {error.strerror}.") from None
    return path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Provides a temporary path, whose file is moved to `path` at the end; makes missing directories.

    Raises:
        EvoconnError: The file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            if is_special(path):
                partial = Path(stack.enter_context(tempfile.TemporaryDirectory())) / f"whole{path.suffix}"
            else:
                place = Path(os.path.realpath(path)).parent
                place.mkdir(parents=True, exist_ok=True)
                mode = 0o600 if os.path.exists(path) else 0o666
                partial = stack.enter_context(partial_path(place / path.name, mode=mode))
            yield partial
            put_in_place(partial, path)
        except OSError as error:
            raise EvoconnError(f"{path} cannot be written: {error.strerror or error}. Name another place.") from error


def check_target(target: Path, *, force: bool) -> None:
    """Checks that `target` can be written.

    Raises:
        ConfigError: It exists and `force` is false, or its place cannot be written.
    """
    if os.path.exists(target) and not force and not is_special(target):
        raise ConfigError(f"{target} exists already. Name another --out, or replace it with --force.")
    if problem := place_problem(target):
        raise ConfigError(f"{target} cannot be written: {problem}. Name another --out.")


def write_whole(write: Callable[[Path], object], target: Path, *, force: bool) -> list[Path]:
    """Writes `target` and files beside it, all or none; returns their paths.

    Args:
        write: Writes a file or a directory of the given name, and perhaps files beside it.
        target: File, or directory; of one that exists, the files with the same names are replaced.
        force: Whether to replace existing files.

    Raises:
        EvoconnError: Something cannot be written, or exists and `force` is false.
    """
    target = target if target.name not in ("", "..") else target.resolve()
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial_path(folder / "export", directory=True) as partial:
            write(partial / target.name)
            written = sorted(partial.iterdir())
            for entry in written:
                check_target(folder / entry.name, force=force)
            for entry in written:
                _merge(entry, folder / entry.name)
    except OSError as error:
        raise EvoconnError(f"{target} cannot be written: {error.strerror or error}. Name another --out.") from None
    return [folder / entry.name for entry in written]


def _merge(source: Path, target: Path) -> None:
    """Moves a file, or a directory whose files replace those of the same names in `target`."""
    if source.is_dir() and target.is_dir():
        for entry in source.iterdir():
            _merge(entry, target / entry.name)
    else:
        put_in_place(source, target)


def put_in_place(whole: Path, path: Path) -> None:
    """Moves the file `whole` to `path`.

    Links are followed, a replaced file passes on its mode and owner, and special files are written to.

    Raises:
        OSError: The file cannot be written.
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
        shutil.copyfile(whole, target)  # a mounted file, as in containers, or a link to another disk
        whole.unlink()


def _own_stream(path: Path) -> int | None:
    """Returns 1 or 2 if `path` is that output stream of this process, such as /dev/stdout; None otherwise."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(path), os.fstat(number)):
                return number
    return None


def _write_through(whole: Path, path: Path) -> None:
    """Writes the content of a file to the special file `path`; a closed pipe is no failure."""
    number = _own_stream(path)
    if number is not None:
        (sys.stdout if number == 1 else sys.stderr).flush()
    with contextlib.suppress(BrokenPipeError), whole.open("rb") as content:
        with open(path if number is None else os.dup(number), "wb") as file:
            shutil.copyfileobj(content, file)


def _take_rights(path: Path, old: os.stat_result) -> None:
    """Gives the file `path` the mode of an `old` one, and its owner if permitted."""
    with contextlib.suppress(OSError):
        os.chown(path, old.st_uid, old.st_gid)
    os.chmod(path, stat.S_IMODE(old.st_mode))


def finite_json(value: Any) -> Any:
    """Returns a JSON value with None in place of NaN and infinities."""
    if isinstance(value, dict):
        return {key: finite_json(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite_json(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def replace_text(path: Path, text: str) -> None:
    """Replaces the content of `path` atomically, also if this process crashes.

    A symbolic link is replaced, not followed. A replaced file passes on its mode and owner.

    Raises:
        OSError: The file cannot be written; the old content stays.
    """
    with partial_path(path) as partial:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.is_file() and not path.is_symlink():
            _take_rights(partial, path.stat())
        partial.replace(path)


@contextlib.contextmanager
def partial_path(path: Path, *, directory: bool = False, mode: int = 0o666) -> Iterator[Path]:
    """Provides a new file or directory beside `path`, to be renamed to it, and removes it if it was not renamed.

    Signals that end the process remove it as well. After `kill -9`, the next process of this host that writes into the
    same directory removes it, since the operating system has released the lock of its writer.

    Args:
        path: Final path, in an existing directory.
        directory: Whether to make a directory.
        mode: Mode of the file.

    Raises:
        OSError: It cannot be made.
    """
    _remove_abandoned(path.parent)
    with _signals_raise():
        partial, descriptor = _make_locked(path, directory, mode)
        try:
            yield partial
        finally:
            _remove(partial)
            os.close(descriptor)


def _make_locked(path: Path, directory: bool, mode: int) -> tuple[Path, int]:
    """Returns a new file or directory beside `path`, and the descriptor that holds its lock."""
    while True:
        partial = path.with_name(
            f".{path.stem[:_LONGEST_STEM]}-{_host_tag()}{os.urandom(4).hex()}.partial{path.suffix}"
        )
        if directory:
            partial.mkdir()
        flags = os.O_RDONLY if directory else os.O_RDWR | os.O_CREAT | os.O_EXCL
        try:
            descriptor = os.open(partial, flags | os.O_CLOEXEC, mode)
        except FileNotFoundError:
            if directory and path.parent.is_dir():
                continue  # another process saw it without a lock and has removed it
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if partial.exists():
                return partial, descriptor
        except BlockingIOError:
            pass  # another process saw it without a lock and is about to remove it
        except OSError:  # a file system without locks, where no process removes it
            return partial, descriptor
        os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    """Removes partial files in `folder` whose writers, on this host, have ended.

    Files of other hosts are kept, because not every shared file system shares locks between hosts.
    """
    pattern = re.compile(rf"\..+-{_host_tag()}[0-9a-f]{{8}}\.partial(\..*)?")
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in [entry for entry in entries if pattern.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(Path(entry.path))
                finally:
                    os.close(descriptor)


def _host_tag() -> str:
    """Returns eight digits that identify this host in file names."""
    return f"{zlib.crc32(os.uname().nodename.encode()):08x}"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Makes signals that would end the process at once raise `SystemExit`, so that it cleans up first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in _ENDING_SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _raise_exit)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _raise_exit(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one ends it at once
    raise SystemExit(128 + number)
