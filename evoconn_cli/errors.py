"""What can go wrong for a user: each error is one message and one exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


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


class RunBusyError(RunDirectoryError):
    """A run that another process trains."""


class CheckpointError(EvoconnError):
    """A checkpoint that is missing, damaged or of another run."""


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


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """Returns the error for a `name` that is not one of the `known` ones, nearest ones first."""
    known = list(known)
    near = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return ConfigError(f"unknown {kind} {name!r}. {hint}Known: {', '.join(known)}.")
