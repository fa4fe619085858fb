"""One generation: ask for members, simulate them, rank them, move the centre. Serves every strategy and network.

A generation is two programs. `simulate` is sharded: the population is cut into blocks of a fixed size and every
device takes whole blocks. `learn` runs on one device and sees only gathered arrays, whose shapes do not depend on the
number of devices. They are compiled apart because what XLA fuses decides how floats are rounded, and in one program the
neighbours of the update change with the number of devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from evoconn_cli.engine import normalizer as norm
from evoconn_cli.engine.continuous import Members, run_first_episodes
from evoconn_cli.engine.mesh import DEVICES, WorkerMesh
from evoconn_cli.engine.ranking import doubled_centered_ranks
from evoconn_cli.engine.rollout import BlockResult, Lanes, Rollout
from evoconn_cli.engine.state import KEY_IMPLEMENTATION, RunState
from evoconn_cli.engine.strategies import Metrics, Strategy, Sums
from evoconn_cli.networks import Candidates, Carry, Network, Params
from evoconn_cli.tasks import TaskState

_CANDIDATES, _CARRY, _RESET = range(3)
"""Streams of random numbers within a generation; every draw is a function of (run key, generation, member)."""

_FIXED_RESETS = 0
"""Initial states that never change are drawn as those of generation 0; the first generation is number 1."""


class Evaluation(NamedTuple):
    """What the simulation of a population gives, on every device."""

    members: BlockResult  # [P], `observations` [blocks, O]
    ranks: jax.Array  # [M] int32
    sums: Sums  # of the strategy, `[blocks, ...]`; those of whole numbers `[1, ...]`, already added up
    steps_simulated: jax.Array  # [] int32, of all lanes; depends on the number of devices as no other result does


class Generation(NamedTuple):
    """The functions of a generation, each to be compiled on its own and called in this order."""

    settle: Callable[[RunState, jax.Array], tuple[Carry, norm.ObservationSums]] | None  # warm-up, if there is one
    learn_observations: Callable[[norm.NormalizerState, norm.ObservationSums], norm.NormalizerState]
    simulate: Callable[[RunState, jax.Array, Carry | None], Evaluation]
    learn: Callable[[RunState, Evaluation], tuple[RunState, Metrics]]
    members: np.ndarray  # [blocks, B] int32 numbers of the members, second argument of `settle` and `simulate`


def make_generation(
    rollout: Rollout,
    network: Network,
    strategy: Strategy,
    workers: WorkerMesh,
    *,
    population: int,
    evaluation_copies: int,
    block: int,
    fresh_resets: bool,
) -> Generation:
    """Returns the functions of a generation, not yet compiled.

    The last blocks are filled up with members that never count.

    Args:
        rollout: how a block is simulated.
        network: the policy.
        strategy: where members come from.
        workers: the devices.
        population: P, evaluation copies included.
        evaluation_copies: members, the last ones, that are the centre.
        block: B, members simulated in lock-step.
        fresh_resets: initial states are drawn anew each generation, not once.
    """
    num_members = population - evaluation_copies
    num_blocks = -(-population // block)

    def ask(state: RunState, members: jax.Array) -> Candidates:
        key = jax.random.fold_in(_generation_key(state), _CANDIDATES)
        drawn = strategy.ask(key, state.strategy, members)
        return _where_member(members >= num_members, strategy.center(state.strategy), drawn)

    def initial_carry(state: RunState, members: jax.Array) -> Carry:
        return network.initial_carry(_member_keys(_generation_key(state), _CARRY, members))

    def initial_task(state: RunState, members: jax.Array) -> TaskState:
        key = _generation_key(state) if fresh_resets else _generation_key(state, _FIXED_RESETS)
        return rollout.reset(_member_keys(key, _RESET, members))

    def settle(state: RunState, members: jax.Array) -> tuple[Carry, norm.ObservationSums]:
        def one_block(members: jax.Array) -> tuple[Carry, norm.ObservationSums]:
            return rollout.warm_up(
                network.prepare(ask(state, members)),
                state.normalizer,
                initial_task(state, members),
                initial_carry(state, members),
                members < population,
            )

        carries, sums = lax.map(one_block, members)
        return carries, _gather(sums, num_blocks)

    def simulate(state: RunState, members: jax.Array, carries: Carry | None) -> Evaluation:
        blocks = _Blocks(
            present=members < population,
            members=members,
            candidates=None,
            carries=carries,
        )
        if strategy.keeps_candidates:
            blocks = blocks._replace(candidates=_map_present(lambda b: ask(state, b.members), blocks))

        def candidates_of(b: _Blocks) -> Candidates:
            return ask(state, b.members) if b.candidates is None else b.candidates

        def carry_of(b: _Blocks) -> Carry:
            return initial_carry(state, b.members) if b.carries is None else b.carries

        def prepare(b: _Blocks) -> tuple[Params, TaskState]:
            return network.prepare(candidates_of(b)), initial_task(state, b.members)

        def load(indices: jax.Array) -> tuple[Params, Carry]:
            picked = _pick_members(blocks, indices)
            return network.prepare(candidates_of(picked)), carry_of(picked)

        if rollout.first_episode:
            initial = lax.map(lambda m: initial_task(state, m), members)
            results, steps = _first_episodes(rollout, state.normalizer, blocks, initial, load)
        else:
            blocks = blocks._replace(carries=lax.map(carry_of, blocks))
            results, steps = _until_slowest(rollout, state.normalizer, blocks, prepare)
        results = _gather(results, num_blocks)
        per_member = jax.tree.map(lambda x: x.reshape(-1)[:population], results._replace(observations=None))
        ranks = doubled_centered_ranks(per_member.fitness[:num_members])
        weights = jnp.where(members < num_members, jnp.take(ranks, members, mode="clip"), 0)
        sums = _add_over_members(
            lambda args: strategy.weighted_sums(state.strategy, candidates_of(args[1]), args[2]),
            (blocks.present, blocks, weights),
            num_blocks,
        )
        return Evaluation(
            members=per_member._replace(observations=results.observations),
            ranks=ranks,
            sums=sums,
            steps_simulated=lax.psum(steps, DEVICES) * block,
        )

    def learn(state: RunState, evaluation: Evaluation) -> tuple[RunState, Metrics]:
        results = evaluation.members
        sums = jax.tree.map(lambda x: jnp.sum(x, axis=0), evaluation.sums)
        centre, update_metrics = strategy.tell(state.strategy, sums, evaluation.ranks)
        new_state = RunState(
            strategy=centre,
            normalizer=learn_observations(state.normalizer, results.observations),
            generation=state.generation + 1,
            env_steps=state.env_steps.add(jnp.sum(results.steps)),
            key=state.key,
        )
        return new_state, {
            "steps_simulated": evaluation.steps_simulated,
            **_fitness_metrics(results, num_members),
            **({"spikes_per_ms": _mean_rate(results)} if network.spikes_per_ms else {}),
            **update_metrics,
            **strategy.metrics(centre),
        }

    def shard(fn: Callable, in_specs: Any, out_specs: Any) -> Callable:
        return jax.shard_map(fn, mesh=workers.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)

    whole, sharded = PartitionSpec(), PartitionSpec(DEVICES)
    return Generation(
        settle=shard(settle, (whole, sharded), (sharded, whole)) if rollout.warmup_steps else None,
        learn_observations=learn_observations,
        simulate=shard(simulate, (whole, sharded, sharded), whole),
        learn=learn,
        # An argument, not computed on each device: what XLA knows about the numbers would change how it rounds.
        members=workers.deal_blocks(num_blocks, block, absent=population),
    )


def learn_observations(normalizer: norm.NormalizerState, sums: norm.ObservationSums) -> norm.NormalizerState:
    """Returns the normaliser with the observations of all blocks, `sums` `[blocks, O]`, added in their order."""
    return norm.update(normalizer, jax.tree.map(lambda x: jnp.sum(x, axis=0), sums))


class _Blocks(NamedTuple):
    """The blocks of one device, `[blocks, B, ...]`."""

    present: jax.Array
    members: jax.Array
    candidates: Candidates | None  # None: to be asked for again where they are needed
    carries: Carry | None  # None: to be drawn where they are needed


def _pick_members(blocks: _Blocks, indices: jax.Array) -> _Blocks:
    """Returns those members of a device, `[n]`, whose places in all its blocks are `indices` `[n]`."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[indices], blocks)


def _first_episodes(
    rollout: Rollout,
    normalizer: norm.NormalizerState,
    blocks: _Blocks,
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


def _until_slowest(
    rollout: Rollout,
    normalizer: norm.NormalizerState,
    blocks: _Blocks,
    prepare: Callable[[_Blocks], tuple[Params, TaskState]],
) -> tuple[BlockResult, jax.Array]:
    """Returns results `[blocks, ...]` and lock-steps taken, which are as many for every block.

    First every block runs until its own members are done, then on to where the slowest of all blocks stopped: the
    same steps as in lock-step over the whole population, without waiting for each other.
    """

    def advance(args: tuple[_Blocks, Lanes], at_least: jax.Array) -> Lanes:
        block, lanes = args
        params, initial = prepare(block)
        return lax.while_loop(
            lambda now: rollout.unfinished(now) | (now.lock_steps < at_least),
            lambda now: rollout.step(params, normalizer, initial, now),
            lanes,
        )

    def phase(now: tuple[Lanes, jax.Array], _: None) -> tuple[tuple[Lanes, jax.Array], None]:
        lanes, at_least = now
        lanes = _map_present(lambda args: advance(args[1:], at_least), (blocks.present, blocks, lanes))
        return (lanes, lax.pmax(jnp.max(lanes.lock_steps), DEVICES)), None

    lanes = lax.map(lambda b: rollout.start(prepare(b)[1], b.carries, b.present), blocks)
    (lanes, _), _ = lax.scan(phase, (lanes, jnp.zeros((), jnp.int32)), None, length=2)
    results = lax.map(
        lambda args: rollout.result(normalizer, *args),
        (lanes.finished, lanes.episodes, lanes.task.obs, blocks.present),
    )
    return results, jnp.sum(lanes.lock_steps)


def _map_present(fn: Callable[[Any], Any], blocks: Any) -> Any:
    """Returns `fn` mapped over blocks, zeros for those with no member present; `blocks[0]` says who is present."""

    def one(block: Any) -> Any:
        shapes = jax.eval_shape(fn, block)
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return lax.cond(jnp.any(block[0]), fn, lambda _: nothing, block)

    return lax.map(one, blocks)


def _generation_key(state: RunState, number: int | None = None) -> jax.Array:
    """Returns the key of generation `number`, or of the one that comes next."""
    run_key = jax.random.wrap_key_data(state.key, impl=KEY_IMPLEMENTATION)
    return jax.random.fold_in(run_key, state.generation + 1 if number is None else number)


def _member_keys(key: jax.Array, stream: int, members: jax.Array) -> jax.Array:
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.fold_in(key, stream), members)


def _where_member(is_center: jax.Array, center: Candidates, drawn: Candidates) -> Candidates:
    def choose(c: jax.Array, d: jax.Array) -> jax.Array:
        return jnp.where(is_center.reshape(-1, *[1] * (d.ndim - 1)), c, d)

    return jax.tree.map(choose, center, drawn)


def _gather(tree: Any, num_blocks: int) -> Any:
    """Returns the blocks of all devices in the order of their numbers, less those that only fill up devices."""
    return jax.tree.map(lambda x: lax.all_gather(x, DEVICES, tiled=True)[:num_blocks], tree)


def _add_over_members(sums_of: Callable[[Any], Sums], blocks: Any, num_blocks: int) -> Sums:
    """Returns whole numbers added over all blocks, `[1, ...]`; floats by block, to be added in that order.

    Args:
        sums_of: `sums_of(block) -> sums` of a block.
        blocks: of this device; `blocks[0]` says who is present.
        num_blocks: of all devices, that have members.
    """
    shapes = jax.eval_shape(sums_of, jax.tree.map(lambda x: x[0], blocks))
    if not all(jnp.issubdtype(x.dtype, jnp.integer) for x in jax.tree.leaves(shapes)):
        return _gather(_map_present(sums_of, blocks), num_blocks)

    def add(total: Sums, block: Any) -> tuple[Sums, None]:
        added = lax.cond(jnp.any(block[0]), lambda b: jax.tree.map(jnp.add, total, sums_of(b)), lambda _: total, block)
        return added, None

    total, _ = lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), blocks)
    return jax.tree.map(lambda x: lax.psum(x, DEVICES)[None], total)


def _fitness_metrics(results: BlockResult, num_members: int) -> Metrics:
    fitness, evaluation = results.fitness[:num_members], results.fitness[num_members:]
    mean, std = _finite_mean_and_std(fitness)
    length = results.steps[:num_members] / jnp.maximum(results.episodes[:num_members], 1)
    return {
        "fitness_mean": mean,
        "fitness_std": std,
        "fitness_best": jnp.max(jnp.where(jnp.isfinite(fitness), fitness, -jnp.inf)),
        "eval_fitness": _finite_mean_and_std(evaluation)[0],
        "episode_length_mean": jnp.mean(length),
        "episode_length_max": jnp.max(length),
        "failed_members": jnp.sum(~jnp.isfinite(fitness)),
    }


def _mean_rate(results: BlockResult) -> jax.Array:
    return jnp.sum(results.rate) / jnp.maximum(jnp.sum(results.steps), 1)


def _finite_mean_and_std(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns mean and standard deviation of the finite values; NaN where there is none."""
    finite = jnp.isfinite(values)
    mean = jnp.sum(jnp.where(finite, values, 0.0)) / jnp.sum(finite)
    variance = jnp.sum(jnp.where(finite, jnp.square(values - mean), 0.0)) / jnp.sum(finite)
    return mean, jnp.sqrt(variance)
