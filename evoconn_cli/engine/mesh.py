"""The devices of a run, and the blocks of members dealt to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from evoconn_cli.engine.strategies import Sums
from evoconn_cli.networks import Candidates, Carry

JaxDevice: TypeAlias = Any
"""A `jax.Device`, whose class is opaque to type checkers."""

DEVICES = "devices"
"""Name of the only axis of the mesh."""


class WorkerMesh(NamedTuple):
    """A mesh of one axis, whose first `num_workers` devices take blocks.

    XLA compiles a program for one device with other passes than for two or more, which round a few operations
    differently. On a CPU a single worker gets a second device as a companion, so that one worker and many run the same
    program; a second GPU may be in use by others. The devices may belong to several processes.
    """

    mesh: Mesh
    num_workers: int

    @property
    def whole(self) -> NamedSharding:
        """The sharding of arrays that every device holds whole."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def sharded(self) -> NamedSharding:
        """The sharding of arrays whose first axis is split over the devices."""
        return NamedSharding(self.mesh, PartitionSpec(DEVICES))

    @property
    def first_device(self) -> JaxDevice:
        """The device that holds the state of the run; every process has one."""
        return self.mesh.local_devices[0]

    @property
    def on_cpu(self) -> bool:
        """Whether the devices are CPUs."""
        return self.first_device.platform == "cpu"

    @property
    def spans_processes(self) -> bool:
        """Whether some devices belong to other processes."""
        return self.mesh.is_multi_process

    def put_whole(self, tree: Any) -> Any:
        """Returns arrays of the first device, the same in every process, on every device."""
        if not self.spans_processes:
            return jax.device_put(tree, self.whole)

        def put(x: jax.Array) -> jax.Array:
            copies = [jax.device_put(x, device) for device in self.mesh.local_devices]
            return jax.make_array_from_single_device_arrays(x.shape, self.whole, copies)

        return jax.tree.map(put, tree)

    def put_sharded(self, array: np.ndarray) -> jax.Array:
        """Returns an array, whole in every process, with its first axis split over the devices."""
        return jax.make_array_from_callback(array.shape, self.sharded, lambda part: array[part])

    def take_whole(self, tree: Any) -> Any:
        """Returns, on the first device, arrays that every device holds whole.

        With several processes it waits for them, so network errors appear here.
        """
        if self.spans_processes:
            tree = jax.tree.map(lambda x: x.addressable_data(0), jax.block_until_ready(tree))
        return jax.device_put(tree, SingleDeviceSharding(self.first_device))

    def deal_blocks(self, num_blocks: int, block: int, *, absent: int) -> np.ndarray:
        """Returns `[blocks of all devices, block]` int32 member numbers, the same number of blocks for every device.

        Args:
            num_blocks: Blocks with members.
            block: B, members per block.
            absent: Number that stands for the members that fill up the last blocks.
        """
        per_device = -(-num_blocks // self.num_workers)
        members = np.full((self.mesh.size * per_device, block), absent, np.int32)
        working = self.num_workers * per_device
        members[:working] = np.minimum(np.arange(working * block).reshape(working, block), absent)
        return members


def make_worker_mesh(devices: Sequence[JaxDevice], num_workers: int | None = None) -> WorkerMesh:
    """Returns the mesh for `num_workers` of `devices`, by default all.

    Raises:
        ValueError: More workers than devices, or none.
    """
    num_workers = len(devices) if num_workers is None else num_workers
    if not 1 <= num_workers <= len(devices):
        raise ValueError(f"{num_workers} workers for {len(devices)} devices")
    least = 2 if devices[0].platform == "cpu" else 1
    return WorkerMesh(Mesh(np.asarray(devices[: max(num_workers, least)]), (DEVICES,)), num_workers)


class Blocks(NamedTuple):
    """The blocks of one device, `[blocks, B, ...]`."""

    present: jax.Array  # bool, False for members that only fill up a block
    members: jax.Array  # int32 numbers
    candidates: Candidates | None  # None if they are drawn again when needed
    carries: Carry | None  # None if they are drawn when needed


def pick_members(blocks: Blocks, places: jax.Array) -> Blocks:
    """Returns the members `[n]` of a device at `places` `[n]`, counted through all its blocks."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[places], blocks)


def map_present(fn: Callable[[Any], Any], blocks: Any) -> Any:
    """Returns `fn` mapped over blocks, zeros for those with no member present; `blocks[0]` says who is present."""

    def one(block: Any) -> Any:
        shapes = jax.eval_shape(fn, block)
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return lax.cond(jnp.any(block[0]), fn, lambda _: nothing, block)

    return lax.map(one, blocks)


def gather(tree: Any, num_blocks: int) -> Any:
    """Returns the blocks of all devices in the order of their numbers, without those that only fill up devices."""
    return jax.tree.map(lambda x: lax.all_gather(x, DEVICES, tiled=True)[:num_blocks], tree)


def add_over_members(sums_of: Callable[[Any], Sums], blocks: Any, num_blocks: int) -> Sums:
    """Returns whole numbers added over all blocks, `[1, ...]`; floats per block, to be added in their order.

    Args:
        sums_of: `sums_of(block) -> sums` of a block.
        blocks: Blocks of this device; `blocks[0]` says who is present.
        num_blocks: Blocks with members, of all devices.
    """
    shapes = jax.eval_shape(sums_of, jax.tree.map(lambda x: x[0], blocks))
    if not all(jnp.issubdtype(x.dtype, jnp.integer) for x in jax.tree.leaves(shapes)):
        return gather(map_present(sums_of, blocks), num_blocks)

    def add(total: Sums, block: Any) -> tuple[Sums, None]:
        added = lax.cond(jnp.any(block[0]), lambda b: jax.tree.map(jnp.add, total, sums_of(b)), lambda _: total, block)
        return added, None

    total, _ = lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), blocks)
    return jax.tree.map(lambda x: lax.psum(x, DEVICES)[None], total)
