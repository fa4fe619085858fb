"""NVIDIA GPUs and MIG instances of this machine, as NVML reports them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from evoconn_cli.errors import ConfigError

Note: TypeAlias = Callable[[str], None]
"""Is told in a sentence what the user has to know."""

MEMORY_OF_IDLE = 2**30
"""An idle GPU has less memory in use [bytes]: drivers and desktops take some."""


class Gpu(NamedTuple):
    """A GPU, or a MIG instance of one.

    Attributes:
        index: number of the GPU in nvidia-smi.
        instance: number of the MIG instance; None for a whole GPU.
        uuid: that CUDA_VISIBLE_DEVICES takes.
        parent_uuid: of the GPU that it is, or is a part of.
        handle: of NVML.
    """

    index: int
    instance: int | None
    uuid: str
    parent_uuid: str
    handle: Any

    @property
    def name(self) -> str:
        """As the user knows it, such as `gpu 3` or `gpu 3 mig 0`."""
        return f"gpu {self.index}" + ("" if self.instance is None else f" mig {self.instance}")


class GpuDriver:
    """NVML, started.

    Args:
        nvml: the module pynvml, or one like it.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        nvml.nvmlInit()

    def gpus(self, note: Note) -> list[Gpu]:
        """Returns all GPUs; where MIG is on, its instances in place of the GPU. Those that fail are left out."""
        found = []
        for index in range(self._nvml.nvmlDeviceGetCount()):
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                whole = Gpu(index, None, uuid := _text(self._nvml.nvmlDeviceGetUUID(handle)), uuid, handle)
                found += self._instances(whole) if self._has_mig(handle) else [whole]
            except self._nvml.NVMLError as error:
                note(f"gpu {index} is left out: {error}.")
        return found

    def is_idle(self, gpu: Gpu) -> bool:
        """Returns whether no process computes on a GPU and little of its memory is in use at this moment.

        Raises:
            NVMLError: it fails.
        """
        processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(gpu.handle)
        return not processes and self._memory_in_use(gpu.handle) < MEMORY_OF_IDLE

    @property
    def error(self) -> type[Exception]:
        """What is raised where a GPU fails."""
        return self._nvml.NVMLError

    def _memory_in_use(self, handle: Any) -> int:
        """Returns bytes, without those that the driver reserves: close to a gibibyte on large GPUs."""
        try:
            return self._nvml.nvmlDeviceGetMemoryInfo(handle, version=self._nvml.nvmlMemory_v2).used
        except self._nvml.NVMLError:  # a driver that is too old to tell them apart
            return self._nvml.nvmlDeviceGetMemoryInfo(handle).used

    def _has_mig(self, handle: Any) -> bool:
        try:
            current, _ = self._nvml.nvmlDeviceGetMigMode(handle)
        except self._nvml.NVMLError:  # a GPU that has no such thing
            return False
        return bool(current)

    def _instances(self, gpu: Gpu) -> list[Gpu]:
        instances = []
        for number in range(self._nvml.nvmlDeviceGetMaxMigDeviceCount(gpu.handle)):
            try:
                handle = self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu.handle, number)
            except self._nvml.NVMLError:  # the numbers have gaps
                continue
            uuid = _text(self._nvml.nvmlDeviceGetUUID(handle))
            instances.append(Gpu(gpu.index, number, uuid, gpu.uuid, handle))
        return instances


def open_driver(note: Note) -> GpuDriver | None:
    """Returns NVML, None where it cannot be used; where NVIDIA's driver is there all the same, `note` is told why."""
    import pynvml

    try:
        return GpuDriver(pynvml)
    except pynvml.NVMLError as error:
        absent = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        if getattr(error, "value", None) not in absent:
            note(f"GPUs are left out: {error}.")
        return None


def _text(uuid: str | bytes) -> str:
    return uuid.decode() if isinstance(uuid, bytes) else uuid


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
