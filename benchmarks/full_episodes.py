"""Times generations of full episodes, alternating with physics and baseline.

Runs several processes, one after the other: the same program takes up to a fifth longer in one than in the next, and
parts of a generation differ in this.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks.baseline import make_baseline_steps
from benchmarks.generations import make_config
from benchmarks.interleaving import interleave
from benchmarks.parts import physics_steps, seconds_a_step
from benchmarks.processes import run_module
from evoconn_cli.config.schema import SpikingConfig, TaskConfig
from evoconn_cli.engine.build import build_engine
from evoconn_cli.engine.devices import start_jax
from evoconn_cli.engine.state import RunState
from evoconn_cli.tasks import Task, TaskState, make_task

_EPISODE, _PHYSICS_STEPS, _BASELINE_STEPS = 1000, 1500, 6
_TRAINED, _UNTRAINED = 3, 1
"""Generations that a process measures of a population."""


def measure_full_episodes(task: str, population: int, trained: RunState, processes: int) -> dict[str, float]:
    """Returns medians over processes, by name; times in microseconds per environment step and member."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trained"
        file.write_bytes(pickle.dumps(jax.device_get(trained)))
        runs = [run_module("full_episodes", task, str(population), str(file)) for _ in range(processes)]
    figures = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    ratios = [run["over_physics"] for run in runs]
    return {**figures, "over_physics_lowest": min(ratios), "over_physics_highest": max(ratios)}


def _main(name: str, population: str, trained: str) -> None:
    workers = start_jax(None)
    config, block = make_config(name, int(population), workers)
    network = config.network
    assert isinstance(network, SpikingConfig)
    task = make_task(TaskConfig(name))
    engine = build_engine(config, workers, task=nobody_falls(task, _EPISODE))
    generation = engine.compile(engine.initial_state())
    physics = physics_steps(engine, workers, block)
    baseline = make_baseline_steps(task, config.algo.population)
    for run in (physics, baseline):
        jax.block_until_ready(run(1))
    beside = {
        "physics": lambda: seconds_a_step(physics, _PHYSICS_STEPS) / (block * workers.num_workers),
        "baseline": lambda: seconds_a_step(baseline, _BASELINE_STEPS) / config.algo.population,
    }

    def figures(state: RunState, generations: int) -> dict[str, float]:
        spikes: list[float] = []

        def one() -> float:
            copy, done = jax.tree.map(jnp.copy, state), int(state.env_steps)
            before = time.perf_counter()
            copy, measured = generation(copy)
            jax.block_until_ready(measured)
            seconds = time.perf_counter() - before
            spikes.append(float(measured["spikes_per_ms"]) * network.dt_ms * network.num_neurons)
            return seconds / (int(copy.env_steps) - done)

        times = interleave(one, beside, generations)
        return {
            "generation": times.subject * 1e6,
            **{part: seconds * 1e6 for part, seconds in times.beside.items()},
            "spikes": statistics.median(spikes),
            "speedup": 1.0 / times.ratios["baseline"],
            "over_physics": times.ratios["physics"],
        }

    before_training = figures(engine.initial_state(), _UNTRAINED)
    after_training = figures(pickle.loads(Path(trained).read_bytes()), _TRAINED)  # noqa: S301 (our own file)
    also_before = {f"{name}_untrained": before_training[name] for name in ("generation", "spikes", "over_physics")}
    print(json.dumps(after_training | also_before))


def nobody_falls(task: Task, num_steps: int) -> Task:
    """Returns the task with episodes that end after exactly `num_steps`."""

    def step(state: TaskState, action: jax.Array) -> TaskState:
        after = task.step(state, action)
        return after._replace(done=after.steps >= num_steps)

    return dataclasses.replace(task, step=step)


if __name__ == "__main__":
    _main(*sys.argv[1:])
