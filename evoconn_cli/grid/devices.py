"""The devices that cells run on: GPUs, MIG instances, or groups of cores."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Protocol

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.errors import ConfigError
from evoconn_cli.grid import Note
from evoconn_cli.grid.gpus import Gpu, all_gpus, is_idle, named_gpus, visible_gpus
from evoconn_cli.limits import usable_cores

_MEMORY = 0.9
"""Fraction of a GPU's memory that all of its runs may take together."""

_SAMPLES = 3
_BETWEEN_SAMPLES = 0.5  # [s], so that a process that is just starting is not missed

_INSTALL = "pip install 'jax[cuda13]', or 'jax[cuda12]' if the driver is older"


@dataclass(frozen=True, eq=False)
class LocalDevice:
    """A GPU, a MIG instance of one, or a group of cores.

    Attributes:
        name: Name for the user, such as `gpu 3` or `cores 0-3`.
        locks: Names of the locks that keep other launchers away.
        environment: Variables that show the device to a process.
        cores: Cores that a process is restricted to; empty for all.
        capacity: Most runs at a time.
    """

    name: str
    locks: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    cores: tuple[int, ...] = ()
    capacity: int = 1


class Devices(Protocol):
    """The devices of this machine that cells may use."""

    def all(self) -> list[LocalDevice]:
        """Returns every device, busy or not."""
        ...

    def idle(self, held: Set[LocalDevice] = frozenset()) -> list[LocalDevice]:
        """Returns the devices that nothing uses, without those that the caller holds."""
        ...


def choose_devices(launch: LaunchConfig, names: str | None, nvml: Any, note: Note) -> Devices:
    """Returns the devices to run cells on, as the environment variables of this process and its JAX allow.

    Args:
        launch: How cells are run.
        names: GPUs as `named_gpus` takes them, or `cpu`; None for all that are visible.
        nvml: The module pynvml, started; None if there is no driver.
        note: Shows the user why GPUs are not used.

    Raises:
        ConfigError: `names` has a GPU that cannot be used.
    """
    if names == "cpu" or (names is None and os.environ.get("JAX_PLATFORMS", "").startswith("cpu")):
        return CoreGroups(launch.cores_per_run)
    gpus = visible_gpus(all_gpus(nvml, note), os.environ.get("CUDA_VISIBLE_DEVICES")) if nvml else []
    if names is not None:
        gpus = named_gpus(gpus, names)
    if gpus and not has_jax_for_gpus():
        if names is not None:
            raise ConfigError(f"--devices {names}: the installed JAX cannot use GPUs: {_INSTALL}.")
        note(f"GPUs are not used, because the installed JAX cannot use them: {_INSTALL}. The cells run on cores.")
        gpus = []
    if not gpus:
        return CoreGroups(launch.cores_per_run)
    return IdleGpus(nvml, gpus, note, launch.runs_per_device)


def has_jax_for_gpus() -> bool:
    """Returns whether the installed JAX can use GPUs."""
    names = {(distribution.name or "").lower().replace("_", "-") for distribution in metadata.distributions()}
    return any(name.startswith("jax-cuda") and name.endswith("-plugin") for name in names)


def memory_variables(runs: int) -> dict[str, str]:
    """Returns the environment variables that let `runs` runs share the memory of a GPU."""
    return {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{_MEMORY / runs:.3f}"} if runs > 1 else {}


class CoreGroups:
    """The cores of this process in groups of equal size; remaining cores stay unused.

    A run has as many XLA devices and threads as its group has cores, so groups do not slow each other down.

    Args:
        cores_per_run: Size of a group, at most all cores.
        cores: Numbers of the cores; those of this process by default.
    """

    def __init__(self, cores_per_run: int, cores: Sequence[int] | None = None) -> None:
        available = usable_cores() if cores is None else list(cores)
        size = min(cores_per_run, len(available))
        starts = range(0, len(available) - size + 1, size)
        self._groups = [_group(available[start : start + size]) for start in starts]

    def all(self) -> list[LocalDevice]:
        """Returns every group."""
        return list(self._groups)

    def idle(self, held: Set[LocalDevice] = frozenset()) -> list[LocalDevice]:
        """Returns the groups that the caller does not hold; locks tell whether other launchers do."""
        return [group for group in self._groups if group not in held]


def _group(cores: Sequence[int]) -> LocalDevice:
    name = f"core{'s' * (len(cores) > 1)} {_spans(cores)}"
    return LocalDevice(name, tuple(f"core-{core}" for core in cores), {"JAX_PLATFORMS": "cpu"}, tuple(cores))


def _spans(cores: Sequence[int]) -> str:
    """Returns `0-3,6` for 0, 1, 2, 3 and 6."""
    spans: list[list[int]] = []
    for core in cores:
        if spans and core == spans[-1][-1] + 1:
            spans[-1].append(core)
        else:
            spans.append([core])
    return ",".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans)


class IdleGpus:
    """GPUs; one is idle if several samples in a row find no process on it and little memory in use.

    Args:
        nvml: The module pynvml, started.
        gpus: GPUs that may be used.
        note: Shows the user which GPUs fail, once for each failure.
        runs_per_device: Runs that share a GPU.
    """

    def __init__(self, nvml: Any, gpus: Sequence[Gpu], note: Note, runs_per_device: int) -> None:
        self._nvml = nvml
        self._note = note
        self._failed: set[LocalDevice] = set()
        memory = memory_variables(runs_per_device)
        self._gpus = {
            LocalDevice(
                gpu.name, (gpu.uuid,), {"CUDA_VISIBLE_DEVICES": gpu.uuid, **memory}, capacity=runs_per_device
            ): gpu
            for gpu in gpus
        }

    def all(self) -> list[LocalDevice]:
        """Returns every GPU, busy or not."""
        return list(self._gpus)

    def idle(self, held: Set[LocalDevice] = frozenset()) -> list[LocalDevice]:
        """Returns the GPUs that are idle, without those that the caller holds."""
        candidates = [device for device in self._gpus if device not in held]
        for sample in range(_SAMPLES):
            if sample and candidates:
                time.sleep(_BETWEEN_SAMPLES)
            candidates = [device for device in candidates if self._is_idle(device)]
        return candidates

    def _is_idle(self, device: LocalDevice) -> bool:
        try:
            idle = is_idle(self._nvml, self._gpus[device])
        except self._nvml.NVMLError as error:
            if device not in self._failed:
                self._note(f"{device.name} is left out: {error}.")
            self._failed.add(device)
            return False
        self._failed.discard(device)
        return idle
