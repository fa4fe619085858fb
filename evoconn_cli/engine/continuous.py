"""Continuous batching: a device keeps its lanes full by loading the next waiting member where one has finished.

The lanes run in lock-step, and their number and program never change, so a member's result depends neither on its lane
nor on its neighbours. Only when no member waits any more do lanes fall idle, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from evoconn_cli.engine.normalizer import NormalizerState
from evoconn_cli.engine.rollout import Lanes, Rollout, Tally
from evoconn_cli.networks import Carry, Params
from evoconn_cli.tasks import TaskState

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
