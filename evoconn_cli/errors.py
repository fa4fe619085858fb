"""What can go wrong for a user: each error is one message and one exit code."""

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
    """An error the user can act on: the message says what, which value, and what to do next."""

    exit_code = ExitCode.ERROR

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    """Returns `text` on one line, without anything that a terminal would obey: file names may hold that."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def program() -> str:
    """Returns what to type for this program: `evoconn`, or its path if the shell would not find it by that name."""
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
"""By module: packages that a plain installation has, and that only some commands or options import."""


def missing_package(error: BaseException) -> str | None:
    """Returns which optional package an `error` misses and how to install it; None for any other error."""
    module = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    package = _OPTIONAL_PACKAGES.get(module.partition(".")[0])
    return f"{package} is not installed here: pip install {package}" if package else None


def first_line(error: BaseException) -> str:
    """Returns the first line of what an `error` says, without its full stop; its type where it says nothing."""
    if missing := missing_package(error):
        return missing
    lines = str(error).strip().splitlines()
    return (lines[0].strip().rstrip(".:") if lines else "") or type(error).__name__


class ConfigError(EvoconnError):
    """A configuration or a command line that cannot be run as it is."""

    exit_code = ExitCode.USAGE


class RunDirectoryError(EvoconnError):
    """A run directory that cannot be created, written or read."""


class NoRunError(RunDirectoryError):
    """A file or directory that exists and is not part of a run."""


class RunBusyError(RunDirectoryError):
    """A run that another process trains."""


class CheckpointError(EvoconnError):
    """A checkpoint that is missing, damaged or of another run."""


class NothingYetError(CheckpointError, RunDirectoryError):
    """A run that was not trained long enough for what is asked."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint of which parts are missing or not what was saved."""


class UnreadableCheckpointError(CheckpointError):
    """A checkpoint that this user may not read, or that cannot be read now: nothing is known about what it holds."""


class DeletedCheckpointError(CheckpointError):
    """A checkpoint that was deleted while it was read."""


class TrainingError(EvoconnError):
    """A training that cannot go on."""


class DeviceMemoryError(EvoconnError):
    """A device whose memory is too small for what was asked for."""


class GridError(EvoconnError):
    """A grid that cannot be run where it was asked to be."""


class ProcessLostError(EvoconnError):
    """Another process of the same run that is gone, or does not answer."""

    exit_code = ExitCode.PROCESS_LOST


def unknown_name(kind: str, name: str, known: Iterable[str], listed: Iterable[str] = ()) -> ConfigError:
    """Returns the error for a name that is not known, with the nearest ones.

    Args:
        kind: What is named, such as `task`.
        name: The name that is not known.
        known: All known names.
        listed: Those to list, if not all.
    """
    known = list(known)
    typed = str(name).lower()
    near = [typed] if typed in known else difflib.get_close_matches(typed, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return ConfigError(f"unknown {kind} {name!r}. {hint}Known: {', '.join(listed or known)}.")


def near_names(typed: str, names: Mapping[str, str]) -> list[str]:
    """Returns up to three of the values of `names` whose keys may be meant by what is typed, the nearest first.

    That is the name itself, its initials such as `lr`, a word of it such as `export`, or a similar spelling.
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
