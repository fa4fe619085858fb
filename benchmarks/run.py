"""Measures what a generation costs and where it goes; a table, and JSON with `--json FILE`.

    python -m benchmarks.run [--tasks hopper walker2d humanoid] [--population 512] [--json FILE]

All figures are microseconds per environment step and member, medians of several repetitions in this process: compare
figures of one run, not of two.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from evoconn_cli.config.loading import load_config
from evoconn_cli.engine.members_last import members_last
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.runs.build import Engine, build_engine, choose_block
from evoconn_cli.runs.devices import describe_devices, start_jax

STEPS = 300
REPETITIONS = 5


def main() -> None:
    """Parses the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", nargs="+", default=["hopper", "walker2d", "humanoid"])
    parser.add_argument("--population", type=int, default=512)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    workers = start_jax(None)
    console = Console()
    measured = {}
    for task in options.tasks:
        with console.status(f"measuring {task} ..."):
            measured[task] = measure(task, options.population, workers)
    machine = f"{describe_devices(workers)}, {platform.machine()}, jax {jax.__version__}"
    table = Table(title=f"us per environment step and member, population {options.population}, {machine}")
    names = list(next(iter(measured.values())))
    for name in ("task", *names):
        table.add_column(name, justify="left" if name == "task" else "right")
    for task, figures in measured.items():
        table.add_row(task, *(f"{figures[name]:.2f}" for name in names))
    console.print(table)
    if options.json:
        report = {"machine": machine, "population": options.population, "figures": measured}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def measure(task: str, population: int, workers: WorkerMesh) -> dict[str, float]:
    """Returns the figures of one task, by their column."""
    overrides = [f"task.name={task}", f"algo.population={population}", "algo.evaluation_copies=16"]
    config = load_config(None, overrides)
    block = choose_block(config, workers)
    config = load_config(None, [*overrides, f"engine.block={block}"])
    engine = build_engine(config, workers)
    seconds, compile_seconds = time_generation(engine)
    return {
        "physics, vmap": time_physics(engine, workers, block, members_are_last=False),
        "physics": time_physics(engine, workers, block, members_are_last=True),
        "network": time_network(engine, workers, block),
        "generation": seconds,
        "compile [s]": compile_seconds,
    }


def time_on_all(workers: WorkerMesh, block: int, run: Callable[[jax.Array, jax.Array], jax.Array]) -> float:
    """Returns the time of a step of `run(seeds, steps)` per member, when every device runs a block [us]."""
    sharded = workers.sharded.spec
    on_all = jax.jit(
        jax.shard_map(
            run, mesh=workers.mesh, in_specs=(sharded, workers.whole.spec), out_specs=sharded, check_vma=False
        )
    )
    seeds = jax.device_put(jnp.arange(workers.mesh.size, dtype=jnp.uint32), workers.sharded)

    def seconds(steps: int) -> float:
        before = time.perf_counter()
        jax.block_until_ready(on_all(seeds, steps))
        return time.perf_counter() - before

    seconds(0)
    # What happens once, before the first step, is in both and cancels out.
    times = [seconds(STEPS) - seconds(0) for _ in range(REPETITIONS)]
    return statistics.median(times) / (STEPS * block * workers.mesh.size) * 1e6


def time_physics(engine: Engine, workers: WorkerMesh, block: int, *, members_are_last: bool) -> float:
    """Returns the time of a physics step with random actions."""
    task = engine.task
    step = members_last(task.step) if members_are_last else jax.vmap(task.step, in_axes=-1, out_axes=-1)

    def run(seeds: jax.Array, steps: jax.Array) -> jax.Array:
        keys = jax.random.split(jax.random.key(seeds[0]), block)
        state = jax.vmap(task.reset, out_axes=-1)(keys)
        action = jax.random.uniform(keys[0], (task.action_size, block), minval=-1.0)
        state = jax.lax.fori_loop(0, steps, lambda _, state: step(state, action), state)
        return jnp.sum(state.obs)[None]

    return time_on_all(workers, block, run)


def time_network(engine: Engine, workers: WorkerMesh, block: int) -> float:
    """Returns the time of a network step on random observations, with random connections."""
    network, strategy = engine.network, engine.strategy

    def run(seeds: jax.Array, steps: jax.Array) -> jax.Array:
        key = jax.random.key(seeds[0])
        params = network.prepare(strategy.ask(key, strategy.init(key), jnp.arange(block)))
        obs = jax.random.normal(key, (block, engine.task.observation_size))
        carry = network.initial_carry(jax.random.split(key, block))

        def body(_: jax.Array, now: tuple) -> tuple:
            carry, total = now
            carry, action = network.step(params, carry, obs)
            return carry, total + jnp.sum(action)

        return jax.lax.fori_loop(0, steps, body, (carry, jnp.zeros(())))[1][None]

    return time_on_all(workers, block, run)


def time_generation(engine: Engine) -> tuple[float, float]:
    """Returns the time of the third generation per simulated step [us] and of compiling [s].

    Episodes are short then, so that sampling, loading and the update weigh more than in a trained population.
    """
    state = engine.initial_state()
    before = time.perf_counter()
    step = engine.compile(state)
    compile_seconds = time.perf_counter() - before
    seconds, steps = 0.0, 0
    for _ in range(3):
        already = int(state.env_steps_simulated)
        before = time.perf_counter()
        state, metrics = step(state)
        jax.block_until_ready(metrics)
        seconds = time.perf_counter() - before
        steps = int(state.env_steps_simulated) - already
    return seconds / steps * 1e6, compile_seconds


if __name__ == "__main__":
    main()
