"""Plays the members of a device: first episodes in lanes that are refilled, or blocks until the slowest is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from evoconn_cli.engine.mesh import DEVICES, Blocks, map_present
from evoconn_cli.engine.normalizer import NormalizerState
from evoconn_cli.engine.rollout import BlockResult, Lanes, Rollout, Tally
from evoconn_cli.networks import Carry, Params
from evoconn_cli.tasks import TaskState

_REFILL_SHARE = 16
"""Lanes are refilled when one in this many has finished: rarely enough to cost little, often enough to waste little."""


class Finished(NamedTuple):
    """Results of the first episodes of the `m` members of a device."""

    tally: Tally  # [..., m]
    last_obs: jax.Array | None  # [O, m]
    lock_steps: jax.Array  # [] int32 steps that the lanes took


class _Progress(NamedTuple):
    lanes: Lanes  # [B]
    params: Params  # [B, ...] of the members in the lanes
    occupant: jax.Array  # [B] int32 member in each lane; m in an idle lane
    num_loaded: jax.Array  # [] int32 members that are or were in a lane
    finished: Finished


@dataclass(frozen=True)
class _ContinuousBatching:
    """Loads the next waiting member into a lane whose member has finished.

    Attributes:
        rollout: Rollout of first episodes.
        normalizer: Statistics of the observations.
        initial: `[..., m]` starts of the episodes.
        num_present: `[]` int32; the first `num_present` of all `m` members count.
        load: `load(members [n]) -> (params [n, ...], carry [n, ...])`, the networks at the start of an episode.
        num_lanes: B, at most m.
    """

    rollout: Rollout
    normalizer: NormalizerState
    initial: TaskState
    num_present: jax.Array
    load: Callable[[jax.Array], tuple[Params, Carry]]
    num_lanes: int

    @property
    def idle(self) -> int:
        """The occupant of an idle lane."""
        return self.initial.done.shape[-1]

    def run(self) -> Finished:
        """Returns the results of all members; zeros for members that are not present."""
        return lax.while_loop(self._some_run, self._run_and_refill, self._fill_lanes()).finished

    def _fill_lanes(self) -> _Progress:
        first = jnp.arange(self.num_lanes)
        params, carries = self.load(first)
        initial = jax.tree.map(lambda x: x[..., : self.num_lanes], self.initial)
        lanes = self.rollout.start(initial, carries, first < self.num_present)
        nothing = jax.tree.map(
            lambda x: jnp.zeros((*x.shape[:-1], self.idle), x.dtype), (lanes.finished, lanes.last_obs)
        )
        return _Progress(
            lanes=lanes,
            params=params,
            occupant=jnp.where(first < self.num_present, first, self.idle),
            num_loaded=jnp.minimum(self.num_lanes, self.num_present),
            finished=Finished(nothing[0], nothing[1], lanes.lock_steps),
        )

    def _some_run(self, now: _Progress) -> jax.Array:
        return jnp.any(now.occupant != self.idle)

    def _run_and_refill(self, now: _Progress) -> _Progress:
        lanes = lax.while_loop(
            lambda lanes: self._keep_running(lanes, now.num_loaded, now.occupant),
            lambda lanes: self.rollout.step(now.params, self.normalizer, lanes.task, lanes),
            now.lanes,
        )
        return lax.while_loop(self._some_lane_waits, self._load_one, self._store_ended(now._replace(lanes=lanes)))

    def _keep_running(self, lanes: Lanes, num_loaded: jax.Array, occupant: jax.Array) -> jax.Array:
        refill_at = max(1, self.num_lanes // _REFILL_SHARE)
        running = (occupant != self.idle) & (lanes.episodes == 0)
        num_ended = jnp.sum((occupant != self.idle) & (lanes.episodes != 0))
        return jnp.any(running) & ((num_loaded == self.num_present) | (num_ended < refill_at))

    def _store_ended(self, now: _Progress) -> _Progress:
        """Stores the results of members that have ended, and marks their lanes as idle."""
        ended = now.lanes.episodes != 0
        place = jnp.where(ended, now.occupant, self.idle)
        left = now.finished._replace(tally=now.lanes.finished, last_obs=now.lanes.last_obs)
        stored = jax.tree.map(
            lambda store, lane: store.at[..., place].set(lane, mode="drop") if store.ndim else store,
            now.finished,
            left,
        )
        return now._replace(
            finished=stored._replace(lock_steps=now.lanes.lock_steps),
            occupant=jnp.where(ended, self.idle, now.occupant),
        )

    def _some_lane_waits(self, now: _Progress) -> jax.Array:
        return (now.num_loaded < self.num_present) & jnp.any(now.occupant == self.idle)

    def _load_one(self, now: _Progress) -> _Progress:
        lane, member = jnp.argmax(now.occupant == self.idle), now.num_loaded
        initial = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, member, 1, x.ndim - 1), self.initial)
        params, carry = self.load(member[None])
        alone = self.rollout.start(initial, carry, jnp.ones((1,), bool))
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


def _put(tree: Any, one: Any, index: jax.Array, axis: int) -> Any:
    return jax.tree.map(lambda x, y: lax.dynamic_update_slice_in_dim(x, y, index, axis % x.ndim), tree, one)


def play_first_episodes(
    rollout: Rollout,
    normalizer: NormalizerState,
    blocks: Blocks,
    *,
    initial: TaskState,
    load: Callable[[jax.Array], tuple[Params, Carry]],
) -> tuple[BlockResult, jax.Array]:
    """Returns results `[blocks, ...]` and the lock-steps taken by a device with as many lanes as members per block.

    Args:
        rollout: Rollout of first episodes.
        normalizer: Statistics of the observations.
        blocks: Blocks of the device.
        initial: `[blocks, ..., B]` starts of the episodes.
        load: `load(places of members) -> (params, carry)`.
    """
    num_blocks, block = blocks.present.shape
    finished = _ContinuousBatching(
        rollout=rollout,
        normalizer=normalizer,
        num_present=jnp.sum(blocks.present),
        initial=jax.tree.map(lambda x: jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1), initial),
        load=load,
        num_lanes=block,
    ).run()
    tally, last_obs = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(*x.shape[:-1], num_blocks, block), -2, 0), (finished.tally, finished.last_obs)
    )
    results = _results(rollout, normalizer, (tally, jnp.ones_like(blocks.members), last_obs, blocks.present))
    return results, finished.lock_steps


def play_until_slowest(
    rollout: Rollout,
    normalizer: NormalizerState,
    blocks: Blocks,
    prepare: Callable[[Blocks], tuple[Params, TaskState]],
) -> tuple[BlockResult, jax.Array]:
    """Returns results `[blocks, ...]` and the lock-steps taken, the same number for every block.

    Every block first runs until its own members are done, then on to where the slowest of all blocks stopped: the same
    steps as in lock-step over the whole population, but blocks do not wait for each other.
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
    results = _results(rollout, normalizer, (lanes.finished, lanes.episodes, lanes.task.obs, blocks.present))
    return results, jnp.sum(lanes.lock_steps)


def _results(
    rollout: Rollout, normalizer: NormalizerState, ended: tuple[Tally, jax.Array, jax.Array | None, jax.Array]
) -> BlockResult:
    """Returns results `[blocks, ...]`; `ended` has the sums, episodes ended, last observations and members present."""

    def one(block: tuple[Tally, jax.Array, jax.Array | None, jax.Array]) -> BlockResult:
        tally, episodes, last_obs, present = block
        return rollout.result(normalizer, tally, last_obs, episodes=episodes, present=present)

    return lax.map(one, ended)
