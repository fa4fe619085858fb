"""The section `launch` of a grid file: how its cells are run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from evoconn_cli.config.loading import Section, check_keys, check_values, fill
from evoconn_cli.config.reading import read_overrides
from evoconn_cli.config.schema import option, text_keys
from evoconn_cli.errors import ConfigError

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_IN_UNITS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_AS_SLURM = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)")


def parse_duration(text: str) -> float:
    """Returns the seconds of `3h50m`, `90m`, `1d12h`, or of SLURM's `3:50:00` and `1-12:00:00`.

    Raises:
        ConfigError: it is not written so, or nothing.
    """
    written = text.replace(" ", "").lower()
    found = _AS_SLURM.fullmatch(written) or _IN_UNITS.fullmatch(written)
    seconds = sum(int(n or 0) * unit for n, unit in zip(found.groups(), _UNITS.values(), strict=True)) if found else 0
    if seconds == 0:
        raise ConfigError(f"cannot read the time {text!r}: write it as 3h50m, 90m, 45s, 1d12h or 3:50:00.")
    return float(seconds)


_OWN_OPTIONS = {
    "array": "max_running",
    "account": "account",
    "cpus-per-task": "launch.cores_per_run",
    "gres": "gres",
    "mem": "mem",
    "partition": "partition",
    "qos": "qos",
    "signal": "save_before",
    "time": "time",
}
"""Options of sbatch that have a key here, or are one elsewhere."""

_SET_BY_US = ("job-name", "ntasks", "open-mode", "output", "parsable", "requeue", "no-requeue", "wrap")

_OPTION = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class SlurmConfig:
    """What each cell asks SLURM for; where a key is null, SLURM's own default holds."""

    partition: str | None = option(None, "partition, or several with commas between")
    account: str | None = option(None, "account that the time is charged to")
    qos: str | None = option(None, "quality of service")
    gres: str | None = option(None, "generic resources of a cell, such as gpu:1")
    time: str | None = option(None, "limit of a cell before it goes back to the queue, such as 4h or 1d12h")
    mem: str | None = option(None, "memory of a cell, such as 16G")
    max_running: int | None = option(None, "cells of an array that run at once", low=1)
    array_size: int = option(1000, "cells of an array; more get several, each with its own max_running", low=1)
    save_before: int = option(120, "a cell is asked to save so long before its limit", unit="s", low=1, high=65535)
    sbatch: dict[str, str] = option(dict, "any other long option of sbatch, by name; empty for those without a value")


def check_slurm(config: SlurmConfig) -> None:
    """Checks what the types do not.

    Raises:
        ConfigError: something cannot stand in a script for sbatch, or is set elsewhere.
    """
    named = ((name, getattr(config, name)) for name in ("partition", "account", "qos", "gres", "time", "mem"))
    for name, value in (*named, *((f"sbatch.{name}", value) for name, value in config.sbatch.items())):
        if value is not None and not str(value).isprintable():
            raise ConfigError(f"launch.slurm.{name}: {value!r} has characters that cannot stand in a script.")
    for name, value in config.sbatch.items():
        if isinstance(value, (list, dict)):
            raise ConfigError(f"launch.slurm.sbatch.{name}: {value!r} is not a plain value; write it in quotes.")
        if name in _OWN_OPTIONS:
            key = _OWN_OPTIONS[name]
            full = key if "." in key else f"launch.slurm.{key}"
            raise ConfigError(f"launch.slurm.sbatch.{name}: use the key {full} instead.")
        if name in _SET_BY_US:
            raise ConfigError(f"launch.slurm.sbatch.{name}: launch-grid sets this option itself.")
        if not _OPTION.fullmatch(name):
            raise ConfigError(f"launch.slurm.sbatch.{name}: write a long option of sbatch without its dashes.")


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_SIGNAL_EARLY = 60
"""SLURM may send a signal so much too early [s]."""


@dataclass(frozen=True)
class LaunchConfig:
    """How the cells of a grid are run; none of it shapes what they compute."""

    runs_per_device: int = option(1, "runs that share a GPU", low=1, high=64)
    cores_per_run: int = option(4, "cores of a run where there is no GPU; all, where there are fewer", low=1)
    retries: int = option(2, "times that a failed cell is tried again", low=0)
    retry_pause: float = option(30.0, "wait before a failed cell is tried again", unit="s", low=0)
    time_limit: str | None = option(None, "a cell saves and makes room before it has run so long, such as 3h50m")
    environment: dict[str, str] = option(dict, "environment variables of the cells' processes, by name")
    slurm: SlurmConfig = SlurmConfig()  # what --on slurm asks for


_TEXT_KEYS = frozenset(text_keys(LaunchConfig(), "launch."))

_TEXT_SECTIONS = ("launch.environment.", "launch.slurm.sbatch.")


def is_launch_text(key: str) -> bool:
    """Returns whether the values of a key are text, whatever they look like."""
    return key in _TEXT_KEYS or key.startswith(_TEXT_SECTIONS)


def read_launch(given: Any, overrides: Sequence[str]) -> LaunchConfig:
    """Returns the checked section `launch`.

    Args:
        given: what stands in the file; None for nothing.
        overrides: `launch.KEY=VALUE` entries.

    Raises:
        ConfigError: an unknown key, a wrong type or value.
    """
    launch = read_section(given, LaunchConfig(), "launch")
    for entry in overrides:
        if not entry.startswith("launch."):
            raise ConfigError(f"{entry}: only keys of launch can be given here, such as launch.retries=0.")
    launch = read_section(read_overrides(overrides, is_launch_text).get("launch"), launch, "launch")
    _check_environment(launch)
    check_slurm(launch.slurm)
    _check_times(launch)
    return launch


def read_section(given: Any, defaults: Section, name: str) -> Section:
    """Returns the dataclass `defaults` with the values of the section `name`.

    Raises:
        ConfigError: as `read_launch`.
    """
    if given is None:
        return defaults
    if not isinstance(given, DictConfig):
        raise ConfigError(f"{name}: expected a section with `key: value` lines, got {given!r}.")
    check_keys(given, defaults, f"{name}.")
    section = fill(defaults, given, f"{name}.")
    check_values(section, f"{name}.")
    return section


def _check_environment(launch: LaunchConfig) -> None:
    for name, value in launch.environment.items():
        if not _VARIABLE.fullmatch(name):
            raise ConfigError(
                f"launch.environment: {name!r} is no name of a variable: letters, digits and '_', no digit first."
            )
        if not isinstance(value, str) or "\0" in value:
            raise ConfigError(f"launch.environment.{name}: {value!r} is no text that a variable can have.")


def _check_times(launch: LaunchConfig) -> None:
    limits = {"launch.time_limit": launch.time_limit, "launch.slurm.time": launch.slurm.time}
    seconds = {key: _seconds(key, limit) for key, limit in limits.items() if limit is not None}
    time, needed = seconds.get("launch.slurm.time"), launch.slurm.save_before + _SIGNAL_EARLY
    if time is not None and time <= needed:
        raise ConfigError(
            f"launch.slurm.time={launch.slurm.time}: a cell may be asked to save {needed} s before it, which is at "
            "once. Raise it, or lower launch.slurm.save_before."
        )


def _seconds(key: str, limit: str) -> float:
    try:
        return parse_duration(limit)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None
