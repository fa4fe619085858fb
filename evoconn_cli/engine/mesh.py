"""The devices that the population is sharded over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Device: TypeAlias = Any
"""A `jax.Device`, whose class no type checker can see."""

DEVICES = "devices"
"""Name of the only axis of the mesh."""


class WorkerMesh(NamedTuple):
    """A mesh of one axis, of which the first `num_workers` devices take blocks.

    XLA compiles a program for one device with other passes than for two or more, which then round a few operations
    otherwise. Where an idle second device is to be had (on a CPU always), a single worker gets it as a companion, so
    that one worker and many run the same program.
    """

    mesh: Mesh
    num_workers: int

    @property
    def whole(self) -> NamedSharding:
        """The sharding of arrays that every device holds whole."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def sharded(self) -> NamedSharding:
        """The sharding of arrays whose first axis is cut over the devices."""
        return NamedSharding(self.mesh, PartitionSpec(DEVICES))

    @property
    def first_device(self) -> Device:
        """The device that holds the state of the run."""
        return self.mesh.devices.flat[0]

    def deal_blocks(self, num_blocks: int, block: int, *, absent: int) -> np.ndarray:
        """Returns `[blocks of all devices, block]` int32 member numbers, the same number of blocks for every device.

        Args:
            num_blocks: blocks that have members.
            block: members of a block.
            absent: the number of members that fill up the last blocks is at least this.
        """
        a_device = -(-num_blocks // self.num_workers)
        members = np.full((self.mesh.size * a_device, block), absent, np.int32)
        working = self.num_workers * a_device
        members[:working] = np.minimum(np.arange(working * block).reshape(working, block), absent)
        return members


def make_worker_mesh(devices: Sequence[Device], num_workers: int | None = None) -> WorkerMesh:
    """Returns the mesh for `num_workers` of `devices`, all of them by default.

    Raises:
        ValueError: more workers than devices, or none.
    """
    num_workers = len(devices) if num_workers is None else num_workers
    if not 1 <= num_workers <= len(devices):
        raise ValueError(f"{num_workers} workers for {len(devices)} devices")
    return WorkerMesh(Mesh(np.asarray(devices[: max(num_workers, 2)]), (DEVICES,)), num_workers)
