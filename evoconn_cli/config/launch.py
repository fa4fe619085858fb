"""The section `launch` of a grid file: how cells are run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from evoconn_cli.config.fields import TEXT, option, walk
from evoconn_cli.config.loading import Section, check_keys, check_values, fill
from evoconn_cli.config.reading import read_overrides
from evoconn_cli.config.registry import PLUGINS_VARIABLE
from evoconn_cli.errors import ConfigError


@dataclass(frozen=True)
class SlurmConfig:
    """What each cell asks SLURM for; SLURM's own defaults hold for keys that are null."""

    partition: str | None = option(None, "partition, or several separated by commas")
    account: str | None = option(None, "account that is charged")
    qos: str | None = option(None, "quality of service")
    gres: str | None = option(None, "generic resources per cell, such as gpu:1")
    time: str | None = option(None, "time limit per cell, which is then requeued, such as 4h or 1d12h")
    mem: str | None = option(None, "memory per cell, such as 16G")
    max_running: int | None = option(None, "cells of an array that run at once", low=1)
    array_size: int = option(1000, "cells per array; larger grids get several, each with its own max_running", low=1)
    save_before: int = option(120, "how long before its time limit a cell saves", unit="s", low=1, high=65535)
    sbatch: dict[str, str] = option(dict, "other long options of sbatch by name; empty text for those without a value")


@dataclass(frozen=True)
class LaunchConfig:
    """How the cells of a grid are run; nothing here changes what they compute."""

    runs_per_device: int = option(1, "runs that share a GPU", low=1, high=64)
    cores_per_run: int = option(4, "CPU cores per run without a GPU, at most those available", low=1)
    retries: int = option(2, "retries of a failed cell", low=0)
    retry_pause: float = option(30.0, "wait before a failed cell is retried", unit="s", low=0)
    time_limit: str | None = option(None, "a cell saves and makes room before it has run this long, such as 3h50m")
    environment: dict[str, str] = option(dict, "environment variables of cells, by name")
    slurm: SlurmConfig = SlurmConfig()  # for --on slurm


_TEXT_KEYS = {key for key, _, f in walk(LaunchConfig(), "launch.") if f.type in TEXT}
_TEXT_SECTIONS = ("launch.environment.", "launch.slurm.sbatch.")


def is_launch_text(key: str) -> bool:
    """Returns whether the values of a key are text, whatever they look like."""
    return key in _TEXT_KEYS or key.startswith(_TEXT_SECTIONS)


def read_launch(given: Any, overrides: Sequence[str]) -> LaunchConfig:
    """Returns the checked section `launch`.

    Args:
        given: Section of the file; None if it has none.
        overrides: Entries `launch.KEY=VALUE`.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type or is not allowed.
    """
    launch = read_section(given, LaunchConfig(), "launch")
    _check_names_no_code(launch)
    for entry in overrides:
        if not entry.startswith("launch."):
            raise ConfigError(
                f"{entry}: only keys of launch and search can be given here, such as launch.retries=0. Others belong "
                "into `sets` of a grid file."
            )
    launch = read_section(read_overrides(overrides, is_launch_text).get("launch"), launch, "launch")
    _check_environment(launch)
    _check_slurm(launch.slurm)
    _check_times(launch)
    return launch


def read_section(given: Any, defaults: Section, name: str) -> Section:
    """Returns the dataclass `defaults` with the values of the section `name`.

    Raises:
        ConfigError: As for `read_launch`.
    """
    if given is None:
        return defaults
    if not isinstance(given, DictConfig):
        raise ConfigError(f"{name}: expected a section with `key: value` lines, got {given!r}.")
    check_keys(given, defaults, f"{name}.")
    section = fill(defaults, given, f"{name}.")
    check_values(section, f"{name}.")
    return section


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _check_environment(launch: LaunchConfig) -> None:
    for name, value in launch.environment.items():
        if name == PLUGINS_VARIABLE:
            raise ConfigError(f"launch.environment.{name}: cells have the plug-ins of launch-grid. Use --plugin.")
        if not _VARIABLE.fullmatch(name):
            raise ConfigError(
                f"launch.environment: {name!r} is not the name of a variable. Use letters, digits and '_', and no "
                "digit first."
            )
        if not isinstance(value, str) or "\0" in value:
            raise ConfigError(f"launch.environment.{name}: {value!r} cannot be the value of a variable.")


_NAMES_CODE = re.compile(
    r"(PYTHON|LD_|DYLD_|PJRT_|SLURM_|SBATCH_|XDG_|MPL|MATPLOTLIB|IMAGEIO_|TRITON_|GIT_|WANDB__|OPENSSL_).*"
    r"|PATH|ENV|BASH_ENV|HOME|GCONV_PATH|CUDA_(HOME|PATH|ROOT)|TPU_LIBRARY_PATH|JAX_COMPILATION_CACHE_DIR"
    r"|WANDB_(BASE_URL|CONFIG_DIR|DIR)|NETRC|.*_PROXY|.*_CA_BUNDLE|SSL_CERT_.*",
    re.IGNORECASE,
)
"""Variables that can make a cell run other code than this package, or send the user's API key elsewhere.

A cache of compiled programs is machine code that is run.
"""

_XLA_FILES = re.compile(r"[^-\s]|.*(dir|file|path|from)", re.IGNORECASE | re.DOTALL)
"""Values of XLA_FLAGS that name a file of flags, or a folder with programs that XLA starts."""

_RUNS_CODE = ("container", "container-id", "export-file", "bcast", "error")
"""Options of sbatch that can do that, or append to a file such as ~/.bashrc."""


def _check_names_no_code(launch: LaunchConfig) -> None:
    """Checks that a grid file, which may be a stranger's, does not say what code cells run."""
    for name, value in launch.environment.items():
        if _NAMES_CODE.fullmatch(name) or (name == "XLA_FLAGS" and _XLA_FILES.match(str(value))):
            raise ConfigError(
                f"launch.environment.{name}: a grid file cannot set this variable, because it can name code to run, or "
                "a server that gets your keys. Set it in the shell, or give "
                f"launch.environment.{name}=VALUE on the command line."
            )
    for name, value in launch.slurm.sbatch.items():
        if name in _RUNS_CODE or (name == "export" and "=" in str(value)):
            raise ConfigError(
                f"launch.slurm.sbatch.{name}: a grid file cannot say this, because it can name code to run. Give "
                f"launch.slurm.sbatch.{name}=VALUE on the command line."
            )


_OWN_OPTIONS = {
    "array": "launch.slurm.max_running",
    "cpus-per-task": "launch.cores_per_run",
    "signal": "launch.slurm.save_before",
    **{name: f"launch.slurm.{name}" for name in ("account", "gres", "mem", "partition", "qos", "time")},
}
"""Options of sbatch that have a key."""

_SET_BY_SCRIPT = ("job-name", "ntasks", "open-mode", "output", "parsable", "requeue", "no-requeue", "wrap")

_OPTION = re.compile(r"[a-z][a-z0-9-]*")


def _check_slurm(config: SlurmConfig) -> None:
    named = {name: getattr(config, name) for name in ("partition", "account", "qos", "gres", "time", "mem")}
    for name, value in {**named, **{f"sbatch.{name}": value for name, value in config.sbatch.items()}}.items():
        if value is not None and not str(value).isprintable():
            raise ConfigError(f"launch.slurm.{name}: {value!r} has characters that a script cannot have.")
    for name, value in config.sbatch.items():
        where = f"launch.slurm.sbatch.{name}"
        if isinstance(value, (list, dict)):
            raise ConfigError(f"{where}: {value!r} is not a plain value; write it in quotes.")
        if name in _OWN_OPTIONS:
            raise ConfigError(f"{where}: use the key {_OWN_OPTIONS[name]} instead.")
        if name in _SET_BY_SCRIPT:
            raise ConfigError(f"{where}: launch-grid sets this option itself.")
        if not _OPTION.fullmatch(name):
            raise ConfigError(f"{where}: write a long option of sbatch without its dashes.")


_SIGNAL_EARLY = 60  # [s] that SLURM may send a signal too early


def _check_times(launch: LaunchConfig) -> None:
    limits = {"launch.time_limit": launch.time_limit, "launch.slurm.time": launch.slurm.time}
    seconds = {}
    for key, limit in limits.items():
        try:
            seconds[key] = None if limit is None else parse_duration(limit)
        except ConfigError as error:
            raise ConfigError(f"{key}: {error}") from None
    time, needed = seconds["launch.slurm.time"], launch.slurm.save_before + _SIGNAL_EARLY
    if time is not None and time <= needed:
        raise ConfigError(
            f"launch.slurm.time={launch.slurm.time}: a cell may be asked to save {needed} s before it, which is at "
            "once. Raise it, or lower launch.slurm.save_before."
        )


_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_IN_UNITS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_AS_SLURM = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)")


def parse_duration(text: str) -> float:
    """Returns a duration [s] that is written as `3h50m`, `90m`, `1d12h`, or like SLURM's `3:50:00` and `1-12:00:00`.

    Raises:
        ConfigError: The text has another form, or the duration is 0.
    """
    written = text.replace(" ", "").lower()
    found = _AS_SLURM.fullmatch(written) or _IN_UNITS.fullmatch(written)
    seconds = sum(int(n or 0) * unit for n, unit in zip(found.groups(), _UNITS.values(), strict=True)) if found else 0
    if seconds == 0:
        raise ConfigError(f"cannot read the time {text!r}: write it as 3h50m, 90m, 45s, 1d12h or 3:50:00.")
    return float(seconds)
