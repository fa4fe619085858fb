"""NVIDIA GPUs and MIG instances of this machine, as NVML reports them, and how users name them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain, takewhile
from typing import Any, NamedTuple

from evoconn_cli.errors import ConfigError
from evoconn_cli.grid import Note

_MEMORY_OF_IDLE = 2**30
"""An idle GPU has less memory in use [bytes]; drivers and desktops take some."""


class Gpu(NamedTuple):
    """A GPU, or a MIG instance of one.

    Attributes:
        index: Number of the GPU in nvidia-smi.
        instance: Number of the MIG instance; None for a whole GPU.
        uuid: UUID for CUDA_VISIBLE_DEVICES.
        parent_uuid: UUID of the whole GPU.
        handle: Handle of NVML.
    """

    index: int
    instance: int | None
    uuid: str
    parent_uuid: str
    handle: Any

    @property
    def name(self) -> str:
        """Name for the user, such as `gpu 3` or `gpu 3 mig 0`."""
        return f"gpu {self.index}" + ("" if self.instance is None else f" mig {self.instance}")


def start_nvml(note: Note) -> Any:
    """Returns the module pynvml, started; None if it cannot be used, with a note if NVIDIA's driver is installed."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        absent = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        if getattr(error, "value", None) not in absent:
            note(f"GPUs are not used: {error}.")
        return None
    return pynvml


def all_gpus(nvml: Any, note: Note) -> list[Gpu]:
    """Returns all GPUs, or their instances if MIG is on; those that fail are left out with a note.

    Args:
        nvml: The module pynvml, or one like it, started.
        note: Shows the user which GPUs fail.
    """
    found = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = nvml.nvmlDeviceGetUUID(handle)
            whole = Gpu(index, None, uuid, uuid, handle)
            found += _instances(nvml, whole) if _has_mig(nvml, handle) else [whole]
        except nvml.NVMLError as error:
            note(f"gpu {index} is left out: {error}.")
    return found


def is_idle(nvml: Any, gpu: Gpu) -> bool:
    """Returns whether no process computes on a GPU and little of its memory is in use at this moment.

    Raises:
        NVMLError: The GPU fails.
    """
    processes = nvml.nvmlDeviceGetComputeRunningProcesses(gpu.handle)
    # Version 2 leaves out what the driver reserves, which is almost 1 GiB on large GPUs.
    memory = nvml.nvmlDeviceGetMemoryInfo(gpu.handle, version=nvml.nvmlMemory_v2)
    return not processes and memory.used < _MEMORY_OF_IDLE


def _has_mig(nvml: Any, handle: Any) -> bool:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:  # the GPU does not support it
        return False
    return bool(current)


def _instances(nvml: Any, gpu: Gpu) -> list[Gpu]:
    handles = {}
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu.handle)):
        with suppress(nvml.NVMLError):  # the numbers have gaps
            handles[number] = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu.handle, number)
    return [Gpu(gpu.index, number, nvml.nvmlDeviceGetUUID(one), gpu.uuid, one) for number, one in handles.items()]


def visible_gpus(gpus: Sequence[Gpu], variable: str | None) -> list[Gpu]:
    """Returns the GPUs that CUDA_VISIBLE_DEVICES shows, in its order.

    Numbers are those of nvidia-smi, and UUIDs may be abbreviated. As in CUDA, an entry that names no GPU ends the list.

    Args:
        gpus: All GPUs.
        variable: Value of CUDA_VISIBLE_DEVICES; None if it is not set.
    """
    if variable is None:
        return list(gpus)
    found = takewhile(bool, (_find(gpus, entry) for entry in variable.split(",")))
    return _distinct(found)


def named_gpus(gpus: Sequence[Gpu], names: str) -> list[Gpu]:
    """Returns the GPUs that `--devices` names.

    Args:
        gpus: Visible GPUs.
        names: Numbers of nvidia-smi or UUIDs, separated by commas.

    Raises:
        ConfigError: A name matches no visible GPU.
    """
    found = {entry.strip(): _find(gpus, entry) for entry in names.split(",")}
    for entry, matching in found.items():
        if not matching:
            known = ", ".join(dict.fromkeys(str(gpu.index) for gpu in gpus)) or "none"
            raise ConfigError(
                f"--devices {names}: no GPU {entry!r}; visible are: {known}. Use the numbers of nvidia-smi; "
                "CUDA_VISIBLE_DEVICES may hide some."
            )
    return _distinct(found.values())


def _distinct(found: Iterable[Iterable[Gpu]]) -> list[Gpu]:
    """Returns each GPU once, at its first place."""
    return list({gpu.uuid: gpu for gpu in chain.from_iterable(found)}.values())


def _find(gpus: Sequence[Gpu], entry: str) -> list[Gpu]:
    """Returns the GPU with a number or an abbreviated UUID; all instances of a GPU with MIG."""
    entry = entry.strip()
    if entry.isdecimal():
        return [gpu for gpu in gpus if gpu.index == int(entry)]
    if not entry.startswith(("GPU-", "MIG-")):
        return []
    instances = [gpu for gpu in gpus if gpu.uuid.startswith(entry)]
    return instances or [gpu for gpu in gpus if gpu.parent_uuid.startswith(entry)]
