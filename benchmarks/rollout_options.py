"""Compares fitness measures by what is learned from the same number of environment steps; prints a Markdown table.

    python -m benchmarks.rollout_options [--task hopper] [--steps 20e6] [--seeds 0 1 2] [--out FILE.jsonl]

Every run is the laptop preset with centred ranks and one option changed, and ends after the first generation in which
the steps that count toward fitness reach `--steps`. Runs of this version on this machine found in FILE.jsonl are not
repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax

from benchmarks.machine import describe_machine
from evoconn_cli import __version__
from evoconn_cli.config.loading import load_config, override_config
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.build import build_engine, choose_block
from evoconn_cli.engine.devices import start_jax
from evoconn_cli.engine.mesh import WorkerMesh

VARIANTS = {
    "first_episode, fixed, all_steps": [],
    "until_slowest": ["rollout.fitness=until_slowest"],
    "last_step": ["rollout.normalizer=last_step"],
    "fresh": ["rollout.resets=fresh"],
}
LAST = 5
"""Generations at the end of a run that its result is the mean of."""


def main() -> None:
    """Parses the arguments, trains what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--task", default="hopper")
    parser.add_argument("--steps", type=float, default=20e6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/rollout_options.jsonl"))
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    workers = start_jax(None)
    here = {
        "task": options.task,
        "steps": options.steps,
        "version": __version__,
        "machine": describe_machine(workers),
    }
    for seed in options.seeds:
        for variant, overrides in VARIANTS.items():
            about = {**here, "variant": variant, "seed": seed}
            if any(run.items() >= about.items() for run in known):
                continue
            given = [f"task.name={options.task}", f"seed={seed}", "algo.shaping=centered_rank", *overrides]
            config = load_config("laptop", given)
            run = {**about, **train(config, options.steps, workers)}
            with options.out.open("a") as file:
                file.write(json.dumps(run) + "\n")
            known.append(run)
    print(table([run for run in known if run.items() >= here.items()]))


def train(config: RunConfig, num_steps: float, workers: WorkerMesh) -> dict[str, Any]:
    """Returns the result of a training that counts at least `num_steps` environment steps."""
    config = override_config(config, [f"engine.block={choose_block(config, workers)}"])
    engine = build_engine(config, workers)
    state = engine.initial_state()
    step = engine.compile(state)
    history, before = [], time.perf_counter()
    while int(state.env_steps) < num_steps:
        state, measured = step(state)
        history.append(jax.device_get(measured))

    def at_the_end(key: str) -> float:
        return statistics.fmean(float(line[key]) for line in history[-LAST:])

    return {
        "generations": len(history),
        "fitness_mean": at_the_end("fitness_mean"),
        "eval_fitness": at_the_end("eval_fitness"),
        "seconds": time.perf_counter() - before,
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Returns one row a variant, mean and standard deviation over seeds."""
    lines = ["| | members' fitness | evaluation fitness | generations |", "|---|---|---|---|"]
    for variant in VARIANTS:
        of_variant = [run for run in runs if run["variant"] == variant]
        if not of_variant:
            continue
        cells = []
        for key in ("fitness_mean", "eval_fitness"):
            values = [run[key] for run in of_variant]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.fmean(values):,.0f} ± {spread:,.0f}")
        generations = statistics.fmean(run["generations"] for run in of_variant)
        lines.append(f"| {variant} | {cells[0]} | {cells[1]} | {generations:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
