"""The GPUs that nobody else uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set

from evoconn_cli.grid.devices import Device, Note, memory_variables
from evoconn_cli.grid.gpus import Gpu, GpuDriver

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
