"""Measures speed and memory of evoconn; prints Markdown tables, and writes JSON with `--json FILE`.

    python -m benchmarks.run [--tasks hopper walker2d humanoid] [--population 512] [--processes 5]
        [--json FILE] [--skip-processes]

Compare figures of one run, not of two: shared machines vary in speed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.baseline import make_dense_network_steps
from benchmarks.full_episodes import measure_full_episodes
from benchmarks.generations import first_generations, make_config
from benchmarks.machine import describe_machine
from benchmarks.parts import (
    median_seconds_a_step,
    network_steps,
    physics_steps,
    sampling_steps,
    update_steps,
)
from benchmarks.processes import compile_seconds, first_generation_seconds, help_seconds, peak_memory
from benchmarks.report import EARLY, MEMORY_POPULATIONS, markdown
from evoconn_cli.engine.build import build_engine
from evoconn_cli.engine.devices import start_jax
from evoconn_cli.engine.mesh import WorkerMesh

_STEPS, _DENSE_STEPS, _DENSE_REPETITIONS = 100, 6, 3


def main() -> None:
    """Parses the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", nargs="+", default=["hopper", "walker2d", "humanoid"])
    parser.add_argument("--population", type=int, default=512)
    parser.add_argument("--processes", type=int, default=5, help="processes that measure full episodes")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--skip-processes", action="store_true", help="measure no memory and no starts")
    options = parser.parse_args()
    workers = start_jax(None)
    report: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.run", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": describe_machine(workers),
        "population": options.population,
        "tasks": {},
    }
    for task in options.tasks:
        _say(f"{task} ...")
        report["tasks"][task] = measure(task, options.population, workers, options.processes)
        if not options.skip_processes:
            report["tasks"][task] |= measure_processes(task, options.population)
    if not options.skip_processes:
        report["help_seconds"] = help_seconds()
    print(markdown(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def measure(task: str, population: int, workers: WorkerMesh, processes: int) -> dict[str, float]:
    """Returns the figures of one task, by name; times in microseconds per environment step and member.

    Sampling and update happen once per generation: their time is per member.
    """
    config, block = make_config(task, population, workers)
    engine = build_engine(config, workers)
    on_all = block * workers.num_workers

    def alone(run: Any, members: int, steps: int = _STEPS, **options: int) -> float:
        return median_seconds_a_step(run, steps, **options) / members * 1e6

    first, trained = first_generations(config, workers)
    dense = make_dense_network_steps(engine.task, population)
    figures = {
        "physics_vmap": alone(physics_steps(engine, workers, block, plain=True), on_all, steps=_STEPS // 4),
        "network": alone(network_steps(engine, workers, block), on_all),
        "network_dense": alone(dense, population, steps=_DENSE_STEPS, repetitions=_DENSE_REPETITIONS),
        "sampling": alone(sampling_steps(engine, workers, block), on_all, steps=5),
        "update": alone(update_steps(engine, workers, block), on_all, steps=5),
        **measure_full_episodes(task, population, trained, processes),
    }
    for generations, early in zip(EARLY, first, strict=True):
        in_lock_step = figures["baseline"] * 1e-6 * early.slowest_steps * population
        figures[f"early_speedup_{generations}"] = in_lock_step / early.seconds
        figures[f"early_share_counted_{generations}"] = early.share_counted
        figures[f"early_steps_{generations}"] = early.counted_steps / early.seconds
        figures[f"early_steps_baseline_{generations}"] = early.counted_steps / in_lock_step
    figures["network_speedup"] = figures["network_dense"] / figures["network"]
    return figures


def measure_processes(task: str, population: int) -> dict[str, float]:
    """Returns the figures that need a separate process."""
    _say("  memory, compiling, starting ...")
    cold, warm = compile_seconds(task, population)
    return {
        **{f"memory_{size}": peak_memory(task, size) for size in MEMORY_POPULATIONS},
        "compile_cold": cold,
        "compile_warm": warm,
        "second_start": first_generation_seconds(task, population),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
