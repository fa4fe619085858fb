"""Speed and memory of evoconn: tables in Markdown, and JSON with `--json FILE`.

    python -m benchmarks.run [--tasks hopper walker2d humanoid] [--population 512] [--processes 5]
        [--json FILE] [--skip-processes]

Compare figures of one run, not of two: machines are shared and their clocks move.
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
from benchmarks.generations import EARLY, first_generations, make_config
from benchmarks.machine import describe_machine
from benchmarks.parts import (
    median_seconds_a_step,
    network_steps,
    physics_steps,
    sampling_steps,
    update_steps,
)
from benchmarks.processes import compile_seconds, first_generation_seconds, help_seconds, peak_memory
from evoconn_cli.engine.build import build_engine
from evoconn_cli.engine.devices import start_jax
from evoconn_cli.engine.mesh import WorkerMesh

_STEPS, _DENSE_STEPS, _DENSE_REPETITIONS = 100, 6, 3
_MEMORY_POPULATIONS = (512, 2048, 10240)

_PARTS = {
    "physics": "physics, members last",
    "physics_vmap": "physics, `vmap`, on as many devices",
    "network": "network, packed, before training",
    "network_dense": "network, dense int8, before training, one device",
    "generation": "whole generation, full episodes",
    "generation_untrained": "the same, before training",
    "baseline": "baseline: `vmap` and dense, one device",
}
_ONCE = {"sampling": "sampling", "update": "update"}
_RATIOS = {
    "speedup": "baseline / generation, full episodes",
    **{f"early_speedup_{count}": f"the same over the first {count} generations" for count in EARLY},
    "network_speedup": "dense / packed network, before training",
    "over_physics": "generation / physics",
    "over_physics_lowest": "the same, process with the lowest",
    "over_physics_highest": "the same, process with the highest",
    "over_physics_untrained": "the same, before training",
    **{f"early_share_counted_{count}": f"share of simulated steps that count, first {count}" for count in EARLY},
}
_THROUGHPUTS = {
    f"early_steps{which}_{count}": f"{label}, first {count} generations"
    for count in EARLY
    for which, label in {"": "evoconn", "_baseline": "baseline"}.items()
}


def main() -> None:
    """Parses the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", nargs="+", default=["hopper", "walker2d", "humanoid"])
    parser.add_argument("--population", type=int, default=512)
    parser.add_argument("--processes", type=int, default=5, help="in which full episodes are measured")
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

    Sampling and update are once a generation: their time is per member.
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
    """Returns what needs a process of its own."""
    _say("  memory, compiling, starting ...")
    cold, warm = compile_seconds(task, population)
    return {
        **{f"memory_{size}": peak_memory(task, size) for size in _MEMORY_POPULATIONS},
        "compile_cold": cold,
        "compile_warm": warm,
        "second_start": first_generation_seconds(task, population),
    }


def markdown(report: dict[str, Any]) -> str:
    """Returns the report as tables."""
    tasks = report["tasks"]
    sections = {
        "µs per environment step and member": (_PARTS, 2),
        "µs per member, once a generation": (_ONCE, 2),
        "Ratios": (_RATIOS, 2),
        "Environment steps that count, a second": (_THROUGHPUTS, 0),
        "Neurons that spike in a sub-step": (
            {"spikes": "full episodes", "spikes_untrained": "the same, before training"},
            1,
        ),
        "Peak memory above the bare process [MB]": (
            {f"memory_{size}": f"population {size}" for size in _MEMORY_POPULATIONS},
            0,
        ),
        "Seconds": (
            {
                "compile_cold": "compiling, cold",
                "compile_warm": "compiling, from the cache",
                "second_start": "second `evoconn train`, start to its first generation",
            },
            1,
        ),
    }
    lines = [f"`{report['command']}`, {report['date']}, {report['machine']}, population {report['population']}", ""]
    for title, (rows, digits) in sections.items():
        if not any(name in figures for name in rows for figures in tasks.values()):
            continue
        lines += [f"| {title} | {' | '.join(tasks)} |", "|---|" + "---:|" * len(tasks)]
        for name, label in rows.items():
            lines.append(f"| {label} | {' | '.join(f'{figures[name]:,.{digits}f}' for figures in tasks.values())} |")
        lines.append("")
    if "help_seconds" in report:
        lines.append(f"`evoconn --help`: {report['help_seconds']:.2f} s")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
