"""A stand-in for pynvml with eight GPUs, which tests make busy, failing, or split by MIG."""

from __future__ import annotations

from types import SimpleNamespace


class FakeNvml:
    """Stands in for the module pynvml.

    Attributes:
        processes: Number of processes per device in each sample; the last one stays.
        pids: Numbers of the processes per device, in place of `processes`.
        busy: Utilisation per device [%].
        memory: Bytes in use per device.
        reserved: Bytes per device that the driver reserves; only the second version of the call separates them.
        failing: Devices whose calls all fail.
        mig: Numbers of the MIG instances per GPU.
    """

    class NVMLError(Exception):
        pass

    nvmlMemory_v2 = 0x02000028

    def __init__(self, count: int = 8) -> None:
        self.count = count
        self.processes: dict[str, list[int]] = {}
        self.pids: dict[str, list[int]] = {}
        self.busy: dict[str, int] = {}
        self.memory: dict[str, int] = {}
        self.reserved = 0
        self.failing: set[str] = set()
        self.mig: dict[int, list[int]] = {}
        self.samples = 0

    def nvmlDeviceGetCount(self):
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index):
        if f"GPU-{index}" in self.failing:
            raise self.NVMLError("GPU is lost")
        return SimpleNamespace(uuid=f"GPU-{index}")  # like a real one, it cannot be hashed

    def nvmlDeviceGetUUID(self, handle):
        return handle.uuid

    def nvmlDeviceGetMigMode(self, handle):
        if int(handle.uuid.removeprefix("GPU-")) not in self.mig:
            raise self.NVMLError("Not Supported")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle):
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle, number):
        index = int(handle.uuid.removeprefix("GPU-"))
        if number not in self.mig[index]:
            raise self.NVMLError("Not Found")
        return SimpleNamespace(uuid=f"MIG-{index}{number}")

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        if handle.uuid in self.failing:
            raise self.NVMLError("GPU is lost")
        self.samples += 1
        if handle.uuid in self.pids:
            return [SimpleNamespace(pid=pid) for pid in self.pids[handle.uuid]]
        found = self.processes.get(handle.uuid, [0])
        return [SimpleNamespace(pid=1)] * (found.pop(0) if len(found) > 1 else found[0])

    def nvmlDeviceGetMemoryInfo(self, handle, version=None):
        used = self.memory.get(handle.uuid, 3 * 2**20)
        return SimpleNamespace(used=used if version == self.nvmlMemory_v2 else used + self.reserved)

    def nvmlDeviceGetUtilizationRates(self, handle):
        if handle.uuid in self.failing:
            raise self.NVMLError("Not Supported")
        return SimpleNamespace(gpu=self.busy.get(handle.uuid, 0), memory=0)
