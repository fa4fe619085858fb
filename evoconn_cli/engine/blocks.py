"""The blocks that a device takes: mapping over them, gathering what they gave, adding it up in a fixed order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from evoconn_cli.engine.mesh import DEVICES
from evoconn_cli.engine.strategies import Sums
from evoconn_cli.networks import Candidates, Carry


class Blocks(NamedTuple):
    """The blocks of one device, `[blocks, B, ...]`."""

    present: jax.Array  # bool, False for members that only fill up a block
    members: jax.Array  # int32 numbers
    candidates: Candidates | None  # None: to be asked for again where they are needed
    carries: Carry | None  # None: to be drawn where they are needed


def pick_members(blocks: Blocks, indices: jax.Array) -> Blocks:
    """Returns those members of a device, `[n]`, whose places in all its blocks are `indices` `[n]`."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[indices], blocks)


def map_present(fn: Callable[[Any], Any], blocks: Any) -> Any:
    """Returns `fn` mapped over blocks, zeros for those with no member present; `blocks[0]` says who is present."""

    def one(block: Any) -> Any:
        shapes = jax.eval_shape(fn, block)
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return lax.cond(jnp.any(block[0]), fn, lambda _: nothing, block)

    return lax.map(one, blocks)


def gather(tree: Any, num_blocks: int) -> Any:
    """Returns the blocks of all devices in the order of their numbers, less those that only fill up devices."""
    return jax.tree.map(lambda x: lax.all_gather(x, DEVICES, tiled=True)[:num_blocks], tree)


def add_over_members(sums_of: Callable[[Any], Sums], blocks: Any, num_blocks: int) -> Sums:
    """Returns whole numbers added over all blocks, `[1, ...]`; floats by block, to be added in that order.

    Args:
        sums_of: `sums_of(block) -> sums` of a block.
        blocks: of this device; `blocks[0]` says who is present.
        num_blocks: of all devices, that have members.
    """
    shapes = jax.eval_shape(sums_of, jax.tree.map(lambda x: x[0], blocks))
    if not all(jnp.issubdtype(x.dtype, jnp.integer) for x in jax.tree.leaves(shapes)):
        return gather(map_present(sums_of, blocks), num_blocks)

    def add(total: Sums, block: Any) -> tuple[Sums, None]:
        added = lax.cond(jnp.any(block[0]), lambda b: jax.tree.map(jnp.add, total, sums_of(b)), lambda _: total, block)
        return added, None

    total, _ = lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), blocks)
    return jax.tree.map(lambda x: lax.psum(x, DEVICES)[None], total)
