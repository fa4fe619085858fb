"""Which GPUs a launcher may use: what CUDA_VISIBLE_DEVICES shows, and what `--devices` names of it."""

from __future__ import annotations

from collections.abc import Sequence

from evoconn_cli.errors import ConfigError
from evoconn_cli.grid.gpus import Gpu


def visible(gpus: Sequence[Gpu], variable: str | None) -> list[Gpu]:
    """Returns the GPUs that CUDA_VISIBLE_DEVICES shows, in its order.

    Numbers are those of nvidia-smi; a UUID may be cut short. As CUDA does, all that follows an entry that names no GPU
    is ignored.

    Args:
        gpus: all of them.
        variable: CUDA_VISIBLE_DEVICES; None where it is not set.
    """
    if variable is None:
        return list(gpus)
    shown: list[Gpu] = []
    for entry in variable.split(","):
        matching = find(gpus, entry.strip())
        if not matching:
            break
        shown += [gpu for gpu in matching if gpu not in shown]
    return shown


def chosen(gpus: Sequence[Gpu], names: str) -> list[Gpu]:
    """Returns the GPUs that `--devices` names.

    Args:
        gpus: those that may be used.
        names: numbers of nvidia-smi or UUIDs, separated by commas.

    Raises:
        ConfigError: one of them is not among those that may be used.
    """
    picked: list[Gpu] = []
    for entry in names.split(","):
        matching = find(gpus, entry.strip())
        if not matching:
            known = ", ".join(dict.fromkeys(str(gpu.index) for gpu in gpus)) or "none"
            raise ConfigError(
                f"--devices {names}: there is no GPU {entry.strip()!r} among those that may be used: {known}. Numbers "
                "are those of nvidia-smi; CUDA_VISIBLE_DEVICES may hide some."
            )
        picked += [gpu for gpu in matching if gpu not in picked]
    return picked


def find(gpus: Sequence[Gpu], entry: str) -> list[Gpu]:
    """Returns the GPU that a number or the beginning of a UUID names; of a GPU with MIG all instances."""
    if entry.isdecimal():
        return [gpu for gpu in gpus if gpu.index == int(entry)]
    if not entry.startswith(("GPU-", "MIG-")):
        return []
    instances = [gpu for gpu in gpus if gpu.uuid.startswith(entry)]
    return instances or [gpu for gpu in gpus if gpu.parent_uuid.startswith(entry)]
