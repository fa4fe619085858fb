"""One generation: ask for members, simulate them, rank them, update the centre."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec, SingleDeviceSharding

from evoconn_cli.engine import normalizer as norm
from evoconn_cli.engine.continuous import (
    Blocks,
    add_over_members,
    gather,
    map_present,
    pick_members,
    play_first_episodes,
    play_until_slowest,
)
from evoconn_cli.engine.mesh import DEVICES, WorkerMesh
from evoconn_cli.engine.ranking import Shaping
from evoconn_cli.engine.rollout import BlockResult, Rollout
from evoconn_cli.engine.state import KEY_IMPLEMENTATION, RunState
from evoconn_cli.engine.strategies import Metrics, Strategy, Sums
from evoconn_cli.networks import Candidates, Carry, Network, Params
from evoconn_cli.tasks import TaskState


def fitness_metrics(results: BlockResult, num_members: int) -> Metrics:
    """Returns fitness and length of episodes of the population.

    Args:
        results: `[P]`, evaluation copies last.
        num_members: M, those that are not evaluation copies.
    """
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


def mean_rate(results: BlockResult) -> jax.Array:
    """Returns the mean rate of the neurons over all steps that counted [1/ms]."""
    return jnp.sum(results.rate) / jnp.maximum(jnp.sum(results.steps), 1)


def _finite_mean_and_std(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns mean and standard deviation of the finite values; NaN where there is none."""
    finite = jnp.isfinite(values)
    mean = jnp.sum(jnp.where(finite, values, 0.0)) / jnp.sum(finite)
    variance = jnp.sum(jnp.where(finite, jnp.square(values - mean), 0.0)) / jnp.sum(finite)
    return mean, jnp.sqrt(variance)


_CANDIDATES, _CARRY, _RESET = range(3)
"""Streams of random numbers within a generation; every draw is a function of (run key, generation, member)."""

_FIXED_RESETS = 0
"""Initial states that never change are drawn as those of generation 0; the first generation is number 1."""


class PopulationResult(NamedTuple):
    """What the simulation of a population gives, on every device."""

    members: BlockResult  # [P], `observations` [blocks, O]
    weights: jax.Array  # [M] int32, from `shaping`
    sums: Sums  # of the strategy, `[blocks, ...]`; those of whole numbers `[1, ...]`, already added up
    steps_simulated: jax.Array  # [] uint32, of all lanes; depends on the number of devices as no other result does


class Generation(NamedTuple):
    """The functions of a generation, each to be compiled on its own and called in this order."""

    warm_up: Callable[[RunState, jax.Array], tuple[Carry, norm.ObservationSums]] | None  # if there is one
    learn_observations: Callable[[norm.NormalizerState, norm.ObservationSums], norm.NormalizerState]
    simulate: Callable[[RunState, jax.Array, Carry | None], PopulationResult]
    learn: Callable[[RunState, PopulationResult], tuple[RunState, Metrics]]
    members: np.ndarray  # [blocks, B] int32 numbers of the members, second argument of `warm_up` and `simulate`


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
    shaping: Shaping,
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
        shaping: Weights of the members by their fitness.
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

    def warm_up(state: RunState, members: jax.Array) -> tuple[Carry, norm.ObservationSums]:
        def one_block(members: jax.Array) -> tuple[Carry, norm.ObservationSums]:
            return rollout.warm_up(
                network.prepare(ask(state, members)),
                state.normalizer,
                initial_task(state, members),
                initial_carry(state, members),
                members < population,
            )

        carries, sums = lax.map(one_block, members)
        return carries, gather(sums, num_blocks)

    def simulate(state: RunState, members: jax.Array, carries: Carry | None) -> PopulationResult:
        blocks = Blocks(present=members < population, members=members, candidates=None, carries=carries)
        if strategy.keeps_candidates:
            blocks = blocks._replace(candidates=map_present(lambda b: ask(state, b.members), blocks))

        def candidates_of(b: Blocks) -> Candidates:
            return ask(state, b.members) if b.candidates is None else b.candidates

        def carry_of(b: Blocks) -> Carry:
            return initial_carry(state, b.members) if b.carries is None else b.carries

        def prepare(b: Blocks) -> tuple[Params, TaskState]:
            return network.prepare(candidates_of(b)), initial_task(state, b.members)

        def load(indices: jax.Array) -> tuple[Params, Carry]:
            picked = pick_members(blocks, indices)
            return network.prepare(candidates_of(picked)), carry_of(picked)

        if rollout.first_episode:
            initial = lax.map(lambda m: initial_task(state, m), members)
            results, steps = play_first_episodes(rollout, state.normalizer, blocks, initial, load)
        else:
            blocks = blocks._replace(carries=lax.map(carry_of, blocks))
            results, steps = play_until_slowest(rollout, state.normalizer, blocks, prepare)
        results = gather(results, num_blocks)
        per_member = jax.tree.map(lambda x: x.reshape(-1)[:population], results._replace(observations=None))
        weights = shaping(per_member.fitness[:num_members])
        of_blocks = jnp.where(members < num_members, jnp.take(weights, members, mode="clip"), 0)
        sums = add_over_members(
            lambda args: strategy.weighted_sums(state.strategy, candidates_of(args[1]), args[2]),
            (blocks.present, blocks, of_blocks),
            num_blocks,
        )
        return PopulationResult(
            members=per_member._replace(observations=results.observations),
            weights=weights,
            sums=sums,
            steps_simulated=lax.psum(steps.astype(jnp.uint32), DEVICES) * jnp.uint32(block),
        )

    def learn(state: RunState, result: PopulationResult) -> tuple[RunState, Metrics]:
        results = result.members
        sums = jax.tree.map(lambda x: jnp.sum(x, axis=0), result.sums)
        center, update_metrics = strategy.tell(state.strategy, sums, result.weights)
        new_state = RunState(
            strategy=center,
            normalizer=learn_observations(state.normalizer, results.observations),
            generation=state.generation + 1,
            env_steps=state.env_steps.add(jnp.sum(results.steps)),
            key=state.key,
        )
        return new_state, {
            "steps_simulated": result.steps_simulated,
            **fitness_metrics(results, num_members),
            **({"spikes_per_ms": mean_rate(results)} if network.spikes_per_ms else {}),
            **update_metrics,
            **strategy.metrics(center),
        }

    def shard(fn: Callable, in_specs: Any, out_specs: Any) -> Callable:
        return jax.shard_map(fn, mesh=workers.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)

    whole, sharded = PartitionSpec(), PartitionSpec(DEVICES)
    return Generation(
        warm_up=shard(warm_up, (whole, sharded), (sharded, whole)) if rollout.warmup_steps else None,
        learn_observations=learn_observations,
        simulate=shard(simulate, (whole, sharded, sharded), whole),
        learn=learn,
        # An argument, not computed on each device: what XLA knows about the numbers would change how it rounds.
        members=workers.deal_blocks(num_blocks, block, absent=population),
    )


def learn_observations(normalizer: norm.NormalizerState, sums: norm.ObservationSums) -> norm.NormalizerState:
    """Returns the normaliser with the observations of all blocks, `sums` `[blocks, O]`, added in their order."""
    return norm.update(normalizer, jax.tree.map(lambda x: jnp.sum(x, axis=0), sums))


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


def compile_generation(
    generation: Generation, workers: WorkerMesh, state: RunState
) -> Callable[[RunState], tuple[RunState, Metrics]]:
    """Returns `step(state) -> (state, metrics)`, compiled for the shapes of `state`.

    A `step` consumes its argument, unless the simulation fails.

    The state lives on the first device, and all that is not sharded is compiled for that one. Of several processes
    each has the state and learns for itself: what they all need is gathered on every device as it is simulated.

    Args:
        generation: the functions to compile.
        workers: the devices.
        state: a state of the run, or its shapes.
    """
    whole, sharded = workers.whole, workers.sharded
    one_device = SingleDeviceSharding(workers.first_device)

    def compile_single(fn: Callable, *args: Any, donate: tuple[int, ...] = ()) -> Callable:
        program = jax.jit(fn, in_shardings=one_device, out_shardings=one_device, donate_argnums=donate)
        return program.lower(*args).compile()

    def compile_sharded(fn: Callable, *args: Any, in_shardings: Any, out_shardings: Any) -> Callable:
        program = jax.jit(fn, in_shardings=in_shardings, out_shardings=out_shardings)
        return program.lower(*args).compile()

    members = workers.put_sharded(generation.members)
    shapes = jax.eval_shape(lambda x: x, state)
    carries = warm_up = learn_observations = None
    if generation.warm_up is not None:
        carries, sums = jax.eval_shape(generation.warm_up, shapes, members)
        warm_up = compile_sharded(
            generation.warm_up, shapes, members, in_shardings=(whole, sharded), out_shardings=(sharded, whole)
        )
        learn_observations = compile_single(generation.learn_observations, shapes.normalizer, sums)
    simulate = compile_sharded(
        generation.simulate,
        shapes,
        members,
        carries,
        in_shardings=(whole, sharded, sharded),
        out_shardings=whole,
    )
    result = jax.eval_shape(generation.simulate, shapes, members, carries)
    learn = compile_single(generation.learn, shapes, result, donate=(0,))

    def step(state: RunState) -> tuple[RunState, Metrics]:
        carries = None
        if warm_up is not None and learn_observations is not None:
            carries, sums = warm_up(workers.put_whole(state), members)
            normalizer = learn_observations(state.normalizer, workers.take_whole(sums))
            state = state._replace(normalizer=normalizer)
        # What `learn` is called with is consumed, even where the simulation has failed and left nothing to learn from.
        result = jax.block_until_ready(simulate(workers.put_whole(state), members, carries))
        return learn(state, workers.take_whole(result))

    return step
