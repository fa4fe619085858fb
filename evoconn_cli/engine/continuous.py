"""Continuous batching: loads the next waiting member into a lane whose member has finished."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from evoconn_cli.engine.mesh import DEVICES
from evoconn_cli.engine.normalizer import NormalizerState
from evoconn_cli.engine.rollout import BlockResult, Lanes, Rollout, Tally
from evoconn_cli.engine.strategies import Sums
from evoconn_cli.networks import Candidates, Carry, Params
from evoconn_cli.tasks import TaskState


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


_REFILL_SHARE = 16
"""Lanes are refilled when one in so many has finished: seldom enough to cost little, often enough to waste little."""


class Members(NamedTuple):
    """The members of a device and where they start; the first `num_present` of all `m` count."""

    num_present: jax.Array  # [] int32
    initial: TaskState  # [..., m]


class Finished(NamedTuple):
    """What the first episodes of the members of a device left."""

    tally: Tally  # [..., m]
    last_obs: jax.Array | None  # [O, m]
    lock_steps: jax.Array  # [] int32 steps that the lanes took


class _Progress(NamedTuple):
    lanes: Lanes  # [B]
    params: Params  # [B, ...] of the members in the lanes
    occupant: jax.Array  # [B] int32 the member in each lane; m in a lane that is idle
    num_loaded: jax.Array  # [] int32 members that are or were in a lane
    finished: Finished


def run_first_episodes(
    rollout: Rollout,
    normalizer: NormalizerState,
    members: Members,
    load: Callable[[jax.Array], tuple[Params, Carry]],
    *,
    num_lanes: int,
) -> Finished:
    """Returns what the first episode of every member left; zeros for members that are not present.

    Args:
        rollout: of first episodes.
        normalizer: of the observations.
        members: at least as many as lanes.
        load: `load(members [n]) -> (params [n, ...], carry [n, ...])`, the networks at the start of an episode.
        num_lanes: B.
    """
    idle = members.initial.done.shape[-1]
    refill_at = max(1, num_lanes // _REFILL_SHARE)

    def some_run(now: _Progress) -> jax.Array:
        return jnp.any(now.occupant != idle)

    def keep_running(lanes: Lanes, num_loaded: jax.Array, occupant: jax.Array) -> jax.Array:
        running = (occupant != idle) & (lanes.episodes == 0)
        num_ended = jnp.sum((occupant != idle) & (lanes.episodes != 0))
        return jnp.any(running) & ((num_loaded == members.num_present) | (num_ended < refill_at))

    def run_and_refill(now: _Progress) -> _Progress:
        lanes = lax.while_loop(
            lambda lanes: keep_running(lanes, now.num_loaded, now.occupant),
            lambda lanes: rollout.step(now.params, normalizer, lanes.task, lanes),
            now.lanes,
        )
        return lax.while_loop(some_lane_waits, load_one, put_away(now._replace(lanes=lanes)))

    def put_away(now: _Progress) -> _Progress:
        """Stores what members that have ended left, and marks their lanes as idle."""
        ended = now.lanes.episodes != 0
        place = jnp.where(ended, now.occupant, idle)
        left = now.finished._replace(tally=now.lanes.finished, last_obs=now.lanes.last_obs)
        stored = jax.tree.map(
            lambda store, lane: store.at[..., place].set(lane, mode="drop") if store.ndim else store,
            now.finished,
            left,
        )
        return now._replace(
            finished=stored._replace(lock_steps=now.lanes.lock_steps),
            occupant=jnp.where(ended, idle, now.occupant),
        )

    def some_lane_waits(now: _Progress) -> jax.Array:
        return (now.num_loaded < members.num_present) & jnp.any(now.occupant == idle)

    def load_one(now: _Progress) -> _Progress:
        lane, member = jnp.argmax(now.occupant == idle), now.num_loaded
        initial = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, member, 1, x.ndim - 1), members.initial)
        params, carry = load(member[None])
        alone = rollout.start(initial, carry, jnp.ones((1,), bool))
        lanes = now.lanes
        return now._replace(
            lanes=lanes._replace(
                task=_put(lanes.task, alone.task, lane, axis=-1),
                carry=_put(lanes.carry, alone.carry, lane, axis=0),
                finished=_put(lanes.finished, alone.finished, lane, axis=-1),
                episodes=_put(lanes.episodes, alone.episodes, lane, axis=-1),
                last_obs=_put(lanes.last_obs, alone.last_obs, lane, axis=-1),
            ),
            params=_put(now.params, params, lane, axis=0),
            occupant=now.occupant.at[lane].set(member),
            num_loaded=member + 1,
        )

    first = jnp.arange(num_lanes)
    params, carries = load(first)
    initial = jax.tree.map(lambda x: x[..., :num_lanes], members.initial)
    lanes = rollout.start(initial, carries, first < members.num_present)
    nothing = jax.tree.map(lambda x: jnp.zeros((*x.shape[:-1], idle), x.dtype), (lanes.finished, lanes.last_obs))
    progress = _Progress(
        lanes=lanes,
        params=params,
        occupant=jnp.where(first < members.num_present, first, idle),
        num_loaded=jnp.minimum(num_lanes, members.num_present),
        finished=Finished(nothing[0], nothing[1], lanes.lock_steps),
    )
    return lax.while_loop(some_run, run_and_refill, progress).finished


def _put(tree: Any, one: Any, index: jax.Array, axis: int) -> Any:
    return jax.tree.map(lambda x, y: lax.dynamic_update_slice_in_dim(x, y, index, axis % x.ndim), tree, one)


def play_first_episodes(
    rollout: Rollout,
    normalizer: NormalizerState,
    blocks: Blocks,
    initial: TaskState,
    load: Callable[[jax.Array], tuple[Params, Carry]],
) -> tuple[BlockResult, jax.Array]:
    """Returns results `[blocks, ...]` and lock-steps taken by a device that has as many lanes as a block has members.

    Args:
        rollout: of first episodes.
        normalizer: of the observations.
        blocks: of the device.
        initial: `[blocks, ..., B]`.
        load: `load(places of members) -> (params, carry)`.
    """
    num_blocks, block = blocks.present.shape
    members = Members(
        num_present=jnp.sum(blocks.present),
        initial=jax.tree.map(lambda x: jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1), initial),
    )
    finished = run_first_episodes(rollout, normalizer, members, load, num_lanes=block)
    tally, last_obs = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(*x.shape[:-1], num_blocks, block), -2, 0), (finished.tally, finished.last_obs)
    )
    results = lax.map(
        lambda args: rollout.result(normalizer, *args),
        (tally, jnp.ones_like(blocks.members), last_obs, blocks.present),
    )
    return results, finished.lock_steps


def play_until_slowest(
    rollout: Rollout,
    normalizer: NormalizerState,
    blocks: Blocks,
    prepare: Callable[[Blocks], tuple[Params, TaskState]],
) -> tuple[BlockResult, jax.Array]:
    """Returns results `[blocks, ...]` and lock-steps taken, which are as many for every block.

    First every block runs until its own members are done, then on to where the slowest of all blocks stopped: the
    same steps as in lock-step over the whole population, without waiting for each other.
    """

    def advance(args: tuple[Blocks, Lanes], at_least: jax.Array) -> Lanes:
        block, lanes = args
        params, initial = prepare(block)
        return lax.while_loop(
            lambda now: rollout.unfinished(now) | (now.lock_steps < at_least),
            lambda now: rollout.step(params, normalizer, initial, now),
            lanes,
        )

    def phase(now: tuple[Lanes, jax.Array], _: None) -> tuple[tuple[Lanes, jax.Array], None]:
        lanes, at_least = now
        lanes = map_present(lambda args: advance(args[1:], at_least), (blocks.present, blocks, lanes))
        return (lanes, lax.pmax(jnp.max(lanes.lock_steps), DEVICES)), None

    lanes = lax.map(lambda b: rollout.start(prepare(b)[1], b.carries, b.present), blocks)
    (lanes, _), _ = lax.scan(phase, (lanes, jnp.zeros((), jnp.int32)), None, length=2)
    results = lax.map(
        lambda args: rollout.result(normalizer, *args),
        (lanes.finished, lanes.episodes, lanes.task.obs, blocks.present),
    )
    return results, jnp.sum(lanes.lock_steps)
