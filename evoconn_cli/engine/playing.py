"""Playing the episodes of all blocks of a device: the first of each member, or all until the slowest has ended one."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from evoconn_cli.engine.blocks import Blocks, map_present
from evoconn_cli.engine.continuous import Members, run_first_episodes
from evoconn_cli.engine.mesh import DEVICES
from evoconn_cli.engine.normalizer import NormalizerState
from evoconn_cli.engine.rollout import BlockResult, Lanes, Rollout
from evoconn_cli.networks import Carry, Params
from evoconn_cli.tasks import TaskState


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
