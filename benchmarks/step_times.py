"""Measures the table that the expected time of a run comes from, in five minutes; nothing else may run meanwhile.

    python -m benchmarks.step_times [--tasks ant hopper ...] [--networks conn_snn gru ...]

Writes the table unless tasks or networks are given. A figure is the time of an environment step of a member in
generations in which no episode ends early. Of `conn_snn` it is the larger one of two populations: members that are
alike at first, and members near a random connectome.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import jax
import jax.numpy as jnp

from benchmarks.full_episodes import nobody_falls
from benchmarks.machine import describe_machine
from evoconn_cli.config.loading import load_config, override_config
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.build import build_engine, choose_block
from evoconn_cli.engine.devices import start_jax
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.progress.estimate import STEP_TIMES
from evoconn_cli.tasks import make_task

TASKS = "hopper humanoid walker2d ant halfcheetah inverted_double_pendulum pusher reacher swimmer".split()
NETWORKS = "conn_snn dense_snn gru lstm mlp".split()
FOR_ALL_NETWORKS = ("hopper", "humanoid")
"""Tasks with the fewest and the most observations: what networks add elsewhere is at most what they add here."""

_NEURONS, _POPULATION, _EPISODE, _GENERATIONS = 256, 128, 200, 3


def main() -> None:
    """Parses the arguments, measures, prints, and writes the table if it is complete."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    options = parser.parse_args()
    workers = start_jax(None)
    times: dict[str, dict[str, float]] = {name: {} for name in options.networks}
    for task in options.tasks:
        for network in options.networks if task in FOR_ALL_NETWORKS else ["conn_snn"]:
            times[network][task] = microseconds_per_step(task, network, workers)
            print(f"{task}, {network}: {times[network][task]:.2f} µs", flush=True)
    tasks = times.pop("conn_snn", {})
    table = {
        "machine": describe_machine(workers).partition(", ")[0],
        "cores": workers.num_workers,
        "neurons": _NEURONS,
        "tasks": {task: round(step, 2) for task, step in tasks.items()},
        "networks": {
            network: {task: round(step - tasks.get(task, 0.0), 2) for task, step in steps.items()}
            for network, steps in times.items()
        },
    }
    if options.tasks == TASKS and options.networks == NETWORKS:
        STEP_TIMES.write_text(json.dumps(table, indent=2) + "\n")
        print(f"written: {STEP_TIMES}")


def microseconds_per_step(task: str, network: str, workers: WorkerMesh) -> float:
    """Returns the time of an environment step of a member, in generations of full episodes."""
    strategy = "ec" if network == "conn_snn" else "es"
    given = {
        "task.name": task,
        "task.episode_length": _EPISODE,
        "algo.name": strategy,
        "algo.population": _POPULATION,
        "network.name": network,
        "network.num_neurons": _NEURONS,
    }
    config = load_config(None, [f"{key}={value}" for key, value in given.items()])
    config = override_config(config, [f"engine.block={choose_block(config, workers)}"])
    unending = nobody_falls(make_task(config.task), _EPISODE)
    engine = build_engine(config, workers, task=unending)
    starts = [engine.initial_state()]
    if strategy == "ec":
        apart: RunConfig = override_config(config, ["algo.initial_certainty=0.9"])
        starts.append(build_engine(apart, workers, task=unending).initial_state())
    generation = engine.compile(starts[0])
    medians = []
    for start in starts:
        seconds = []
        for _ in range(1 + _GENERATIONS):
            state = jax.block_until_ready(jax.tree.map(jnp.copy, start))
            before = time.perf_counter()
            jax.block_until_ready(generation(state))
            seconds.append(time.perf_counter() - before)
        medians.append(statistics.median(seconds[1:]))
    return max(medians) / (_POPULATION * _EPISODE) * 1e6


if __name__ == "__main__":
    main()
