"""Times the parts of a generation, each alone and on all devices, as the engine runs them."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from evoconn_cli.engine.build import Engine
from evoconn_cli.engine.members_last import members_last
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.normalizer import initial_normalizer
from evoconn_cli.engine.rollout import Lanes, Rollout
from evoconn_cli.tasks import TaskState

REPETITIONS = 5


def seconds_a_step(run: Callable[[int], jax.Array], steps: int) -> float:
    """Returns the time of a step of `run(steps)`, once; what happens before the first step cancels out [s]."""

    def seconds(steps: int) -> float:
        before = time.perf_counter()
        jax.block_until_ready(run(steps))
        return time.perf_counter() - before

    return (seconds(steps + 1) - seconds(1)) / steps


def median_seconds_a_step(run: Callable[[int], jax.Array], steps: int, repetitions: int = REPETITIONS) -> float:
    """Returns the median time of a step, after a first run that compiles [s]."""
    jax.block_until_ready(run(1))
    return statistics.median(seconds_a_step(run, steps) for _ in range(repetitions))


def _on_all(workers: WorkerMesh, run: Callable[[jax.Array, jax.Array], jax.Array]) -> Callable[[int], jax.Array]:
    def on_one(seeds: jax.Array, steps: jax.Array) -> jax.Array:
        return run(seeds, jnp.where(seeds[0] < workers.num_workers, steps, 0))  # the companion of a single worker rests

    sharded = workers.sharded.spec
    on_all = jax.jit(
        jax.shard_map(
            on_one, mesh=workers.mesh, in_specs=(sharded, workers.whole.spec), out_specs=sharded, check_vma=False
        )
    )
    seeds = jax.device_put(jnp.arange(workers.mesh.size, dtype=jnp.uint32), workers.sharded)
    return lambda steps: on_all(seeds, steps)


def physics_steps(
    engine: Engine, workers: WorkerMesh, block: int, *, plain: bool = False
) -> Callable[[int], jax.Array]:
    """Returns `run(steps)` of the physics of a block on every device; with `plain`, under `vmap`."""
    task = engine.task
    step = jax.vmap(task.step, in_axes=-1, out_axes=-1) if plain else members_last(task.step, barriers=workers.on_cpu)

    def run(seeds: jax.Array, steps: jax.Array) -> jax.Array:
        keys = jax.random.split(jax.random.key(seeds[0]), block)
        state = jax.vmap(task.reset, out_axes=-1)(keys)
        action = jax.random.uniform(keys[0], (task.action_size, block), minval=-1.0)
        state = jax.lax.fori_loop(0, steps, lambda _, state: step(state, action), state)
        return jnp.sum(state.obs)[None]

    return _on_all(workers, run)


def network_steps(engine: Engine, workers: WorkerMesh, block: int) -> Callable[[int], jax.Array]:
    """Returns `run(steps)` of an untrained network of a block on every device, on observations that change."""
    network, strategy = engine.network, engine.strategy

    def run(seeds: jax.Array, steps: jax.Array) -> jax.Array:
        key = jax.random.key(seeds[0])
        params = network.prepare(strategy.ask(key, strategy.init(key), jnp.arange(block)))
        obs = jax.random.normal(key, (block, engine.task.observation_size))
        start = network.initial_carry(jax.random.split(key, block)), jnp.zeros((block, engine.task.action_size))

        def body(_: jax.Array, now: tuple) -> tuple:
            carry, action = now
            return network.step(params, carry, obs + action[:, :1])

        return jnp.sum(jax.lax.fori_loop(0, steps, body, start)[1])[None]

    return _on_all(workers, run)


def block_steps(engine: Engine, workers: WorkerMesh, block: int) -> Callable[[int], jax.Array]:
    """Returns `run(steps)` of an untrained block on every device, network and physics, in which no episode ends.

    It gives the returns `[devices * block]`.
    """
    task, network, strategy = engine.task, engine.network, engine.strategy

    def go_on(state: TaskState, action: jax.Array) -> TaskState:
        after = task.step(state, action)
        return after._replace(done=jnp.zeros_like(after.done))

    endless = dataclasses.replace(task, step=go_on)
    rollout = Rollout(endless, network, first_episode=True, all_steps=True, on_cpu=workers.on_cpu)

    def run(seeds: jax.Array, steps: jax.Array) -> jax.Array:
        key = jax.random.key(seeds[0])
        keys = jax.random.split(key, block)
        params = network.prepare(strategy.ask(key, strategy.init(key), jnp.arange(block)))
        normalizer = initial_normalizer(task.observation_size)
        initial = rollout.reset(keys)
        lanes = rollout.start(initial, network.initial_carry(keys), jnp.ones((block,), bool))

        def body(_: jax.Array, lanes: Lanes) -> Lanes:
            return rollout.step(params, normalizer, initial, lanes)

        return jax.lax.fori_loop(0, steps, body, lanes).finished.total_reward

    return _on_all(workers, run)


def sampling_steps(engine: Engine, workers: WorkerMesh, block: int) -> Callable[[int], jax.Array]:
    """Returns `run(steps)`, each step of which draws a block of members on every device."""
    strategy = engine.strategy

    def run(seeds: jax.Array, steps: jax.Array) -> jax.Array:
        key = jax.random.key(seeds[0])
        state = strategy.init(key)

        def body(step: jax.Array, total: jax.Array) -> jax.Array:
            drawn = strategy.ask(jax.random.fold_in(key, step), state, jnp.arange(block))
            return total + sum(jnp.sum(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves(drawn))

        return jax.lax.fori_loop(0, steps, body, jnp.zeros(()))[None]

    return _on_all(workers, run)


def update_steps(engine: Engine, workers: WorkerMesh, block: int) -> Callable[[int], jax.Array]:
    """Returns `run(steps)`, each step of which adds a block of members, weighted by rank, on every device."""
    strategy = engine.strategy

    def run(seeds: jax.Array, steps: jax.Array) -> jax.Array:
        key = jax.random.key(seeds[0])
        state = strategy.init(key)
        drawn = strategy.ask(key, state, jnp.arange(block))
        ranks = jnp.arange(block, dtype=jnp.int32)

        def body(step: jax.Array, total: jax.Array) -> jax.Array:
            sums = strategy.weighted_sums(state, drawn, ranks + step)
            return total + sum(jnp.sum(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(sums))

        return jax.lax.fori_loop(0, steps, body, jnp.zeros(()))[None]

    return _on_all(workers, run)
