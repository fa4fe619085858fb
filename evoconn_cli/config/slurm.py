"""`launch.slurm` of a grid file: what each cell asks SLURM for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from evoconn_cli.config.schema import option
from evoconn_cli.errors import ConfigError

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
