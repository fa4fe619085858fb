"""Errors for the user: each is one message and one exit code."""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Exit codes of `evoconn`; schedulers and launch-grid rely on them."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    SAVED_EARLY = 75
    PROCESS_LOST = 76
    QUIT = 130


class EvoconnError(Exception):
    """An error that the user can act on: the message says what is wrong, the value, and what to do next."""

    exit_code = ExitCode.ERROR

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    """Returns `text` on one line, with control characters escaped; file names may contain them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def program() -> str:
    """Returns the name to type for this program: `evoconn`, or its path if the shell does not find that."""
    started, found = sys.argv[0], shutil.which("evoconn")
    if Path(started).name != "evoconn" or not os.path.exists(started):  # such as python -m, or a notebook
        return "evoconn"
    return "evoconn" if found and os.path.samefile(started, found) else shlex.quote(started)


_OPTIONAL_PACKAGES = {
    "imageio_ffmpeg": "imageio-ffmpeg",
    "matplotlib": "matplotlib",
    "mujoco": "mujoco",
    "pynvml": "nvidia-ml-py",
    "tensorboardX": "tensorboardX",
    "wandb": "wandb",
}
"""Packages of a plain installation that only some commands or options import, by module."""


def missing_package(error: BaseException) -> str | None:
    """Returns which optional package is missing and how to install it; None for any other error."""
    module = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    package = _OPTIONAL_PACKAGES.get(module.partition(".")[0])
    return f"{package} is not installed here: pip install {package}" if package else None


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message without its full stop; the error's type if there is no message."""
    if missing := missing_package(error):
        return missing
    lines = str(error).strip().splitlines()
    return (lines[0].strip().rstrip(".:") if lines else "") or type(error).__name__


class ConfigError(EvoconnError):
    """An invalid configuration or command line."""

    exit_code = ExitCode.USAGE


class PluginError(EvoconnError):
    """A plug-in that cannot be used as it is; its notes (`add_note`) are the plug-in's own lines of the traceback."""

    exit_code = ExitCode.USAGE


class RunDirectoryError(EvoconnError):
    """A run directory that cannot be created, written or read."""


class NoRunError(RunDirectoryError):
    """An existing file or directory that is not part of a run."""


class RunBusyError(RunDirectoryError):
    """A run that another process is training."""


class CheckpointError(EvoconnError):
    """A checkpoint that is missing, damaged, or of another run."""


class NothingYetError(CheckpointError, RunDirectoryError):
    """A run that has not been trained long enough for the request."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint with missing or altered parts."""


class UnreadableCheckpointError(CheckpointError):
    """A checkpoint without read permission, or that cannot be read now; its content is unknown."""


class DeletedCheckpointError(CheckpointError):
    """A checkpoint that was deleted while it was being read."""


class TrainingError(EvoconnError):
    """A training that cannot continue."""


class DeviceMemoryError(EvoconnError):
    """A device whose memory is too small for the request."""


class GridError(EvoconnError):
    """A grid that cannot be run on the requested place."""


class ProcessLostError(EvoconnError):
    """Another process of the same run has ended or does not answer."""

    exit_code = ExitCode.PROCESS_LOST


def unknown_name(kind: str, name: str, known: Iterable[str], listed: Iterable[str] = ()) -> ConfigError:
    """Returns the error for an unknown name, with similar known ones.

    Args:
        kind: Kind of the name, such as `task`.
        name: Unknown name.
        known: Known names.
        listed: Names to list, if not all.
    """
    known = list(known)
    typed = str(name).lower()
    near = [typed] if typed in known else difflib.get_close_matches(typed, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return ConfigError(f"unknown {kind} {name!r}. {hint}Known: {', '.join(listed or known)}.")


def near_names(typed: str, names: Mapping[str, str]) -> list[str]:
    """Returns up to three values of `names` whose keys `typed` may stand for, the nearest first.

    It may be the key itself, its initials such as `lr`, a word of it such as `export`, or a similar spelling.
    """
    typed = typed.lower().replace("-", "_")
    words = {name: name.lower().replace("-", "_") for name in names}
    tests: tuple[Callable[[str], bool], ...] = (
        lambda name: name == typed,
        lambda name: "".join(word[0] for word in name.split("_")) == typed and len(typed) > 1,
        lambda name: len(typed) > 2 and any(word.startswith(typed) for word in (name, *name.split("_"))),
        lambda name: len(name) > 2 and typed.startswith(name),
    )
    for is_meant in tests:
        if found := [names[name] for name, word in words.items() if is_meant(word)]:
            return found[:3]
    by_word = {word: name for name, word in words.items()}
    return [names[by_word[word]] for word in difflib.get_close_matches(typed, by_word, n=2, cutoff=0.7)]
