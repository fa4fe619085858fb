"""The devices that cells run on: GPUs, parts of GPUs, or groups of cores."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.errors import ConfigError
from evoconn_cli.grid.device_locks import give_back, take_locks
from evoconn_cli.grid.gpus import Gpu, GpuDriver, Note, chosen, open_driver, visible
from evoconn_cli.limits import usable_cores

_MEMORY = 0.9
"""Share of a GPU's memory that all of its runs may take together."""


@dataclass(frozen=True)
class Device:
    """A GPU, a part of one, or a group of cores.

    Attributes:
        name: as the user knows it, such as `gpu 3` or `cores 0-3`.
        locks: names of the locks that keep launchers apart.
        variables: names and values of the environment variables that show the device to a process.
        cores: that a process is kept on; empty for any.
        capacity: runs at a time.
    """

    name: str
    locks: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]
    cores: tuple[int, ...] = ()
    capacity: int = 1

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables as a mapping."""
        return dict(self.variables)


def memory_variables(runs: int) -> dict[str, str]:
    """Returns the environment variables with which so many runs share the memory of a GPU."""
    return {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{_MEMORY / runs:.3f}"} if runs > 1 else {}


class Devices(Protocol):
    """The devices of this machine that cells may use."""

    def all(self) -> list[Device]:
        """Returns every one, busy or not."""
        ...

    def idle(self, held: Set[Device], note: Note) -> list[Device]:
        """Returns those that nothing else uses, without those that the caller holds.

        Args:
            held: devices that the caller uses.
            note: is told of devices that fail.
        """
        ...


class CoreGroups:
    """The cores of this process in groups of equal size.

    A run in a group has as many XLA devices and threads as the group has cores, so that groups do not get in each
    other's way. Cores that are left over stay free.

    Args:
        cores_per_run: size of a group; all cores, where there are fewer.
        cores: their numbers; those of this process by default.
    """

    def __init__(self, cores_per_run: int, cores: Sequence[int] | None = None) -> None:
        available = usable_cores() if cores is None else list(cores)
        size = min(cores_per_run, len(available))
        starts = range(0, len(available) - size + 1, size)
        self._groups = [_group(available[start : start + size]) for start in starts]

    def all(self) -> list[Device]:
        """Returns every group."""
        return list(self._groups)

    def idle(self, held: Set[Device], note: Note) -> list[Device]:
        """Returns the groups that the caller does not hold; whether another launcher does, their locks tell."""
        del note
        return [group for group in self._groups if group not in held]


def _group(cores: Sequence[int]) -> Device:
    name = f"core {cores[0]}" if len(cores) == 1 else f"cores {_spans(cores)}"
    return Device(name, tuple(f"core-{core}" for core in cores), (("JAX_PLATFORMS", "cpu"),), tuple(cores))


def _spans(cores: Sequence[int]) -> str:
    """Returns `0-3,6` for 0, 1, 2, 3 and 6."""
    spans: list[list[int]] = []
    for core in cores:
        if spans and core == spans[-1][-1] + 1:
            spans[-1].append(core)
        else:
            spans.append([core])
    return ",".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans)


_SAMPLES = 3
_BETWEEN_SAMPLES = 0.5  # [s]: a process that has just started, or is between two of them, is not missed


class IdleGpus:
    """GPUs, of which those count as idle that several samples in a row find without processes and nearly empty.

    Args:
        driver: that samples them.
        gpus: that may be used.
        runs_per_device: runs at a time on each.
        pause: waits for so many seconds.
    """

    def __init__(
        self,
        driver: GpuDriver,
        gpus: Sequence[Gpu],
        runs_per_device: int = 1,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._driver = driver
        self._gpus = {_device(gpu, runs_per_device): gpu for gpu in gpus}
        self._pause = pause
        self._failed: set[Device] = set()

    def all(self) -> list[Device]:
        """Returns every GPU, busy or not."""
        return list(self._gpus)

    def idle(self, held: Set[Device], note: Note) -> list[Device]:
        """Returns the GPUs that are idle. One that fails is noted once, and asked again the next time."""
        candidates = [device for device in self._gpus if device not in held]
        for sample in range(_SAMPLES):
            if sample and candidates:
                self._pause(_BETWEEN_SAMPLES)
            candidates = [device for device in candidates if self._is_idle(device, note)]
        return candidates

    def _is_idle(self, device: Device, note: Note) -> bool:
        try:
            is_idle = self._driver.is_idle(self._gpus[device])
        except self._driver.error as error:
            if device not in self._failed:
                note(f"{device.name} is left out: {error}.")
            self._failed.add(device)
            return False
        self._failed.discard(device)
        return is_idle


def _device(gpu: Gpu, runs: int) -> Device:
    variables = {"CUDA_VISIBLE_DEVICES": gpu.uuid, **memory_variables(runs)}
    return Device(gpu.name, (gpu.uuid,), tuple(variables.items()), capacity=runs)


_LOOK_AGAIN = 30.0  # [s] between looks for devices that have become idle


class HeldDevices:
    """Devices whose locks this process has.

    Args:
        devices: of this machine.
        note: is told what the user has to know.
        locks: folder of the lock files; the usual one by default.
        clock: seconds that only ever grow.
    """

    def __init__(
        self, devices: Devices, note: Note, locks: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._devices = devices
        self._note = note
        self._folder = locks
        self._clock = clock
        self._locks: dict[Device, list[int]] = {}
        self._runs: Counter[Device] = Counter()
        self._look_at = 0.0
        self._has_said_none = False

    def take(self) -> Device | None:
        """Returns a device with room for another run, which counts from now on; None where all are busy."""
        device = self._with_room()
        if device is None and self._clock() >= self._look_at:
            self._take_idle()
            device = self._with_room()
        if device is not None:
            self._runs[device] += 1
        return device

    def files(self, device: Device) -> list[int]:
        """Returns the open files of the locks of a device, for the process that runs on it."""
        return self._locks[device]

    def leave(self, device: Device) -> None:
        """Says that a run on a device has ended."""
        self._runs[device] -= 1
        self._look_at = 0.0

    def give_back_unused(self) -> None:
        """Lets others have the devices on which nothing runs."""
        for device in [device for device in self._locks if not self._runs[device]]:
            give_back(self._locks.pop(device))
            self._look_at = 0.0

    def _with_room(self) -> Device | None:
        free = [device for device in self._locks if self._runs[device] < device.capacity]
        return min(free, key=lambda device: self._runs[device], default=None)

    def _take_idle(self) -> None:
        """Takes every idle device; those that are not needed are given back when no cell is ready."""
        self._look_at = self._clock() + _LOOK_AGAIN
        for device in self._devices.idle(self._locks.keys(), self._note):
            files = take_locks(device.locks, self._folder)
            if files is not None:
                self._locks[device] = files
        if not self._locks and not self._has_said_none:
            names = ", ".join(device.name for device in self._devices.all())
            self._note(f"nothing is idle here, so the cells wait: {names}.")
            self._has_said_none = True


_INSTALL = "pip install 'jax[cuda13]', or 'jax[cuda12]' where the driver is older"


def find_devices(launch: LaunchConfig, names: str | None, note: Note) -> Devices:
    """Returns what cells run on.

    Args:
        launch: how many runs share a GPU, and how many cores a run has.
        names: GPUs as `visible_gpus.chosen` takes them, or `cpu`; None for all that are visible.
        note: is told why GPUs are left alone.

    Raises:
        ConfigError: `names` has a GPU that cannot be used.
    """
    return choose_devices(launch, names, note, open_driver(note), os.environ, has_jax_for_gpus=has_jax_for_gpus())


def choose_devices(
    launch: LaunchConfig,
    names: str | None,
    note: Note,
    driver: GpuDriver | None,
    environment: Mapping[str, str],
    *,
    has_jax_for_gpus: bool,
) -> Devices:
    """Returns what `find_devices` does, of what it has found.

    Args:
        launch: as there.
        names: as there.
        note: as there.
        driver: of the GPUs; None where there are none.
        environment: of this process.
        has_jax_for_gpus: whether JAX can use GPUs.

    Raises:
        ConfigError: as there.
    """
    if names == "cpu" or (names is None and environment.get("JAX_PLATFORMS", "").startswith("cpu")):
        return CoreGroups(launch.cores_per_run)
    gpus = visible(driver.gpus(note), environment.get("CUDA_VISIBLE_DEVICES")) if driver else []
    if names is not None:
        gpus = chosen(gpus, names)
    if gpus and not has_jax_for_gpus:
        if names is not None:
            raise ConfigError(f"--devices {names}: the JAX that is installed cannot use GPUs: {_INSTALL}.")
        note(f"there are GPUs, but the JAX that is installed cannot use them: {_INSTALL}. The cells run on cores.")
        gpus = []
    if driver is None or not gpus:
        return CoreGroups(launch.cores_per_run)
    return IdleGpus(driver, gpus, launch.runs_per_device)


def has_jax_for_gpus() -> bool:
    """Returns whether the JAX that is installed can use GPUs."""
    names = {(distribution.name or "").lower().replace("_", "-") for distribution in metadata.distributions()}
    return any(name.startswith("jax-cuda") and name.endswith("-plugin") for name in names)
