"""Measures what a training uses of this machine: cores, memory and GPUs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_STATM = Path("/proc/self/statm")
_INTERVAL = 1.0
"""Time over which processor time is measured, and between two looks at the GPUs [s]."""


class Usage:
    """Use of this machine by this process.

    Args:
        clock: Monotonic clock [s].
        nvml: The module pynvml, or one like it; None if the process computes on no GPU.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, nvml: Any = None) -> None:
        self._clock = clock
        self._at, self._used = clock(), time.process_time()
        self._cores: float | None = None
        self._nvml = nvml
        self._gpus = _gpu_use(nvml)

    def text(self) -> str:
        """Returns the busy cores and the memory of this process, and the use of its GPUs.

        An example: `1.9 cores, 812 MB, 2 GPUs 87 %, 31,024 MB`.
        """
        passed = self._clock() - self._at
        if passed >= _INTERVAL:
            used = time.process_time()
            self._cores = (used - self._used) / passed
            self._at, self._used = self._at + passed, used
            self._gpus = _gpu_use(self._nvml)
        memory = _memory()
        cores = None if self._cores is None else f"{self._cores:.1f} cores"
        return ", ".join(filter(None, (cores, None if memory is None else f"{memory / 1e6:,.0f} MB", self._gpus)))


def load_nvml() -> Any:
    """Returns the module pynvml, started; None if it is missing or has no driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # NVML has errors of its own, and this is a figure beside others
        return None
    return pynvml


def _gpu_use(nvml: Any) -> str | None:
    """Returns the mean utilisation and the memory in use of this process's GPUs; None if NVML does not say.

    These are the GPUs that NVML lists with this process; all, if it lists it nowhere, as in a container.
    """
    if nvml is None:
        return None
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        processes = [[one.pid for one in nvml.nvmlDeviceGetComputeRunningProcesses(handle)] for handle in handles]
        mine = [handle for handle, pids in zip(handles, processes, strict=True) if os.getpid() in pids] or handles
        busy = [nvml.nvmlDeviceGetUtilizationRates(handle).gpu for handle in mine]
        memory = sum(nvml.nvmlDeviceGetMemoryInfo(handle).used for handle in mine)
    except nvml.NVMLError:  # a GPU that fails, or MIG, which has no utilisation
        return None
    if not mine:
        return None
    return f"{'GPU' if len(mine) == 1 else f'{len(mine)} GPUs'} {sum(busy) / len(busy):.0f} %, {memory / 1e6:,.0f} MB"


def _memory() -> int | None:
    """Returns the resident memory of this process [bytes]; None if the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None
