"""The section `launch` of a grid file: how its cells are run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from evoconn_cli.config.checking import Section, check_keys, check_values, fill
from evoconn_cli.config.durations import parse_duration
from evoconn_cli.config.reading import read_overrides
from evoconn_cli.config.schema import option, text_keys
from evoconn_cli.config.slurm import SlurmConfig, check_slurm
from evoconn_cli.errors import ConfigError

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
