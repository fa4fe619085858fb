"""One generation: ask for members, simulate them, rank them, update the centre."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec, SingleDeviceSharding

from evoconn_cli.engine import normalizer as norm
from evoconn_cli.engine.continuous import play_first_episodes, play_until_slowest
from evoconn_cli.engine.mesh import DEVICES, Blocks, WorkerMesh, add_over_members, gather, map_present, pick_members
from evoconn_cli.engine.rollout import BlockResult, Rollout
from evoconn_cli.engine.state import KEY_IMPLEMENTATION, RunState
from evoconn_cli.engine.strategies import Metrics, Strategy, Sums
from evoconn_cli.engine.strategies.shaping import Shaping, doubled_centered_ranks
from evoconn_cli.networks import Candidates, Carry, Params
from evoconn_cli.tasks import TaskState

_CANDIDATES, _CARRY, _RESET = range(3)
"""Streams of random numbers within a generation; every draw is a function of (run key, generation, member)."""

_FIXED_RESETS = 0
"""Initial states that never change are drawn as those of generation 0; the first generation is number 1."""

_WHOLE, _SHARDED = PartitionSpec(), PartitionSpec(DEVICES)

MEMBER_METRICS = {"member_fitness": "fitness", "member_steps": "steps", "member_rate": "rate"}
"""Metrics with a value per member, evaluation copies last, and the fields of `BlockResult` that hold them."""


class PopulationResult(NamedTuple):
    """Result of the simulation of a population, the same on every device."""

    members: BlockResult  # [P], `observations` [blocks, O]
    weights: jax.Array  # [M] int32, from `shaping`
    sums: Sums  # of the strategy, `[blocks, ...]`; those of whole numbers `[1, ...]`, already added up
    steps_simulated: jax.Array  # [] uint32, of all lanes; the only result that depends on the number of devices


@dataclass(frozen=True)
class Generation:
    """The programs of a generation, not yet compiled.

    They are called in this order: `warm_up` and `learn_observations` if the rollout has warm-up steps, `simulate`,
    `learn`. The last blocks are filled up with members that never count.

    Attributes:
        rollout: Simulation of a block.
        strategy: Source of the members.
        workers: The devices.
        population: P, evaluation copies included.
        evaluation_copies: Number of members, the last ones, that are the centre.
        block: B, members simulated in lock-step.
        fresh_resets: Whether initial states are drawn in every generation, not once.
        shaping: Weights of the members by their fitness.
        shaping_generations: Generations for which `shaping` applies, before centred ranks do; None for all.
        alive_bonus: Share of the task's bonus for not falling that counts for the weights; if it is below 1, only
            first episodes are played.
        alive_bonus_generations: Generations for which that share applies, before the whole bonus counts; None for all.
    """

    rollout: Rollout
    strategy: Strategy
    workers: WorkerMesh
    _: KW_ONLY
    population: int
    evaluation_copies: int
    block: int
    fresh_resets: bool
    shaping: Shaping
    shaping_generations: int | None = None
    alive_bonus: float = 1.0
    alive_bonus_generations: int | None = None

    @property
    def num_members(self) -> int:
        """M, without evaluation copies."""
        return self.population - self.evaluation_copies

    @property
    def num_blocks(self) -> int:
        """Blocks with members, of all devices."""
        return -(-self.population // self.block)

    @property
    def members(self) -> np.ndarray:
        """`[blocks, B]` int32 numbers of the members, second argument of `warm_up` and `simulate`.

        An argument, not computed on each device: what XLA knows about the numbers would change how it rounds.
        """
        return self.workers.deal_blocks(self.num_blocks, self.block, absent=self.population)

    def warm_up(self, state: RunState, members: jax.Array) -> tuple[Carry, norm.ObservationSums]:
        """Returns settled carries of the networks, and sums over observations `[blocks, O]`."""
        return self._shard(self._warm_up, (_WHOLE, _SHARDED), (_SHARDED, _WHOLE))(state, members)

    def simulate(self, state: RunState, members: jax.Array, carries: Carry | None) -> PopulationResult:
        """Returns the result of a population that starts with `carries`, drawn if None."""
        return self._shard(self._simulate, (_WHOLE, _SHARDED, _SHARDED), _WHOLE)(state, members, carries)

    def learn(self, state: RunState, result: PopulationResult) -> tuple[RunState, Metrics]:
        """Returns the state after the generation, and its metrics."""
        results = result.members
        sums = jax.tree.map(lambda x: jnp.sum(x, axis=0), result.sums)
        center, update_metrics = self.strategy.tell(state.strategy, sums, result.weights)
        new_state = RunState(
            strategy=center,
            normalizer=learn_observations(state.normalizer, results.observations),
            generation=state.generation + 1,
            env_steps=state.env_steps.add(jnp.sum(results.steps)),
            key=state.key,
        )
        return new_state, {
            "steps_simulated": result.steps_simulated,
            **_fitness_metrics(results, self.num_members),
            **({"spikes_per_ms": _mean_rate(results)} if self.rollout.network.spikes_per_ms else {}),
            **update_metrics,
            **self.strategy.metrics(center),
        }

    def _shard(self, fn: Callable, in_specs: Any, out_specs: Any) -> Callable:
        return jax.shard_map(fn, mesh=self.workers.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)

    def _warm_up(self, state: RunState, members: jax.Array) -> tuple[Carry, norm.ObservationSums]:
        def one_block(members: jax.Array) -> tuple[Carry, norm.ObservationSums]:
            params = self.rollout.network.prepare(self._ask(state, members))
            starts = self._initial_task(state, members), self._initial_carry(state, members)
            return self.rollout.warm_up(params, state.normalizer, starts, members < self.population)

        carries, sums = lax.map(one_block, members)
        return carries, gather(sums, self.num_blocks)

    def _simulate(self, state: RunState, members: jax.Array, carries: Carry | None) -> PopulationResult:
        blocks = Blocks(present=members < self.population, members=members, candidates=None, carries=carries)
        if self.strategy.keeps_candidates:
            blocks = blocks._replace(candidates=map_present(lambda b: self._ask(state, b.members), blocks))
        if not self.rollout.first_episode:
            blocks = blocks._replace(carries=lax.map(lambda b: self._carry_of(state, b), blocks))
        results, steps = self._play(state, blocks)
        results = gather(results, self.num_blocks)
        per_member = jax.tree.map(lambda x: x.reshape(-1)[: self.population], results._replace(observations=None))
        weights = self._weights(state, self._fitness_to_rank(state, per_member)[: self.num_members])
        return PopulationResult(
            members=per_member._replace(observations=results.observations),
            weights=weights,
            sums=self._weighted_sums(state, blocks, weights),
            steps_simulated=lax.psum(steps.astype(jnp.uint32), DEVICES) * jnp.uint32(self.block),
        )

    def _play(self, state: RunState, blocks: Blocks) -> tuple[BlockResult, jax.Array]:
        """Returns results `[blocks, ...]` of this device and the lock-steps that it took."""
        prepare = self.rollout.network.prepare

        def prepare_block(b: Blocks) -> tuple[Params, TaskState]:
            return prepare(self._candidates_of(state, b)), self._initial_task(state, b.members)

        def load(places: jax.Array) -> tuple[Params, Carry]:
            picked = pick_members(blocks, places)
            return prepare(self._candidates_of(state, picked)), self._carry_of(state, picked)

        if not self.rollout.first_episode:
            return play_until_slowest(self.rollout, state.normalizer, blocks, prepare_block)
        initial = lax.map(lambda m: self._initial_task(state, m), blocks.members)
        return play_first_episodes(self.rollout, state.normalizer, blocks, initial=initial, load=load)

    def _weighted_sums(self, state: RunState, blocks: Blocks, weights: jax.Array) -> Sums:
        per_block = jnp.where(blocks.members < self.num_members, jnp.take(weights, blocks.members, mode="clip"), 0)
        return add_over_members(
            lambda args: self.strategy.weighted_sums(state.strategy, self._candidates_of(state, args[1]), args[2]),
            (blocks.present, blocks, per_block),
            self.num_blocks,
        )

    def _weights(self, state: RunState, fitness: jax.Array) -> jax.Array:
        weights = self.shaping(fitness)
        if self.shaping_generations is None:
            return weights
        return jnp.where(state.generation < self.shaping_generations, weights, doubled_centered_ranks(fitness))

    def _fitness_to_rank(self, state: RunState, results: BlockResult) -> jax.Array:
        task = self.rollout.task
        left_out = (1.0 - self.alive_bonus) * task.alive_bonus
        if not left_out:
            return results.fitness
        assert self.rollout.first_episode and task.episode_length is not None
        # A table, because a product and a sum in one place may round differently on another number of devices.
        by_length = jnp.asarray(left_out * np.arange(task.episode_length + 1), jnp.float32)
        if self.alive_bonus_generations is not None:
            by_length = jnp.where(state.generation < self.alive_bonus_generations, by_length, 0.0)
        return results.fitness - by_length[results.steps]

    def _ask(self, state: RunState, members: jax.Array) -> Candidates:
        key = jax.random.fold_in(_generation_key(state), _CANDIDATES)
        drawn = self.strategy.ask(key, state.strategy, members)
        return _where_member(members >= self.num_members, self.strategy.center(state.strategy), drawn)

    def _initial_carry(self, state: RunState, members: jax.Array) -> Carry:
        return self.rollout.network.initial_carry(_member_keys(_generation_key(state), _CARRY, members))

    def _initial_task(self, state: RunState, members: jax.Array) -> TaskState:
        key = _generation_key(state) if self.fresh_resets else _generation_key(state, _FIXED_RESETS)
        return self.rollout.reset(_member_keys(key, _RESET, members))

    def _candidates_of(self, state: RunState, b: Blocks) -> Candidates:
        return self._ask(state, b.members) if b.candidates is None else b.candidates

    def _carry_of(self, state: RunState, b: Blocks) -> Carry:
        return self._initial_carry(state, b.members) if b.carries is None else b.carries


def learn_observations(normalizer: norm.NormalizerState, sums: norm.ObservationSums) -> norm.NormalizerState:
    """Returns the normaliser with the observations of all blocks, `sums` `[blocks, O]`, added in their order."""
    return norm.update(normalizer, jax.tree.map(lambda x: jnp.sum(x, axis=0), sums))


def _generation_key(state: RunState, number: int | None = None) -> jax.Array:
    """Returns the key of generation `number`, or of the next one."""
    run_key = jax.random.wrap_key_data(state.key, impl=KEY_IMPLEMENTATION)
    return jax.random.fold_in(run_key, state.generation + 1 if number is None else number)


def _member_keys(key: jax.Array, stream: int, members: jax.Array) -> jax.Array:
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.fold_in(key, stream), members)


def _where_member(is_center: jax.Array, center: Candidates, drawn: Candidates) -> Candidates:
    def choose(c: jax.Array, d: jax.Array) -> jax.Array:
        return jnp.where(is_center.reshape(-1, *[1] * (d.ndim - 1)), c, d)

    return jax.tree.map(choose, center, drawn)


def _fitness_metrics(results: BlockResult, num_members: int) -> Metrics:
    """Returns fitness and episode lengths of the population.

    Args:
        results: `[P]`, evaluation copies last.
        num_members: M, without evaluation copies.
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


def _mean_rate(results: BlockResult) -> jax.Array:
    """Returns the mean rate of the neurons over all steps that counted [1/ms]."""
    return jnp.sum(results.rate) / jnp.maximum(jnp.sum(results.steps), 1)


def _finite_mean_and_std(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns mean and standard deviation of the finite values; NaN if there are none."""
    finite = jnp.isfinite(values)
    mean = jnp.sum(jnp.where(finite, values, 0.0)) / jnp.sum(finite)
    variance = jnp.sum(jnp.where(finite, jnp.square(values - mean), 0.0)) / jnp.sum(finite)
    return mean, jnp.sqrt(variance)


def compile_generation(generation: Generation, state: RunState) -> Callable[[RunState], tuple[RunState, Metrics]]:
    """Returns `step(state) -> (state, metrics)`, compiled for the shapes of `state`.

    A `step` consumes its argument, unless the simulation fails. Its metrics are scalars, and those of
    `MEMBER_METRICS`, `[P]`.

    The state is on the first device, for which everything that is not sharded is compiled. If there are several
    processes, each has the state and learns for itself; what they all need is gathered on every device after the
    simulation.

    Args:
        generation: The programs to compile.
        state: State of the run, or its shapes.
    """
    workers = generation.workers
    whole, sharded = workers.whole, workers.sharded
    one_device = SingleDeviceSharding(workers.first_device)
    # Bound once, because JAX finds an earlier trace by the identity of the function.
    warm_up_fn, simulate_fn, learn_fn = generation.warm_up, generation.simulate, generation.learn

    def compile_for(in_shardings: Any, out_shardings: Any, fn: Callable, *args: Any, **options: Any) -> Callable:
        program = jax.jit(fn, in_shardings=in_shardings, out_shardings=out_shardings, **options)
        return program.lower(*args).compile()

    members = workers.put_sharded(generation.members)
    shapes = jax.eval_shape(lambda x: x, state)
    carries = warm_up = learn_warm_up = None
    if generation.rollout.warmup_steps:
        carries, sums = jax.eval_shape(warm_up_fn, shapes, members)
        warm_up = compile_for((whole, sharded), (sharded, whole), warm_up_fn, shapes, members)
        learn_warm_up = compile_for(one_device, one_device, learn_observations, shapes.normalizer, sums)
    simulate = compile_for((whole, sharded, sharded), whole, simulate_fn, shapes, members, carries)
    result = jax.eval_shape(simulate_fn, shapes, members, carries)
    learn = compile_for(one_device, one_device, learn_fn, shapes, result, donate_argnums=0)

    def step(state: RunState) -> tuple[RunState, Metrics]:
        carries = None
        if warm_up is not None and learn_warm_up is not None:
            carries, sums = warm_up(workers.put_whole(state), members)
            normalizer = learn_warm_up(state.normalizer, workers.take_whole(sums))
            state = state._replace(normalizer=normalizer)
        # `learn` consumes its arguments even if the simulation has failed: wait for that first.
        result = jax.block_until_ready(simulate(workers.put_whole(state), members, carries))
        result = workers.take_whole(result)
        state, metrics = learn(state, result)
        return state, metrics | {name: getattr(result.members, field) for name, field in MEMBER_METRICS.items()}

    return step
