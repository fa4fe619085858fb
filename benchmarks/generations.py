"""Configures the trainings of the benchmark, and times their first generations."""

from __future__ import annotations

import time
from typing import NamedTuple

import jax

from benchmarks.report import EARLY
from evoconn_cli.config.loading import load_config, override_config
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.build import build_engine, choose_block
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.state import RunState

LATE = 60
"""Generations after which a population counts as trained."""

_SEED = 2
"""Random seed of the trainings. With 0 and 1 walker2d stays in a local optimum in which half of the neurons fire."""


class Early(NamedTuple):
    """Totals over the first generations of a training."""

    seconds: float
    counted_steps: int  # environment steps that counted
    share_counted: float  # of all steps simulated
    slowest_steps: int  # of the slowest member of each generation, added up


def make_config(task: str, population: int, workers: WorkerMesh) -> tuple[RunConfig, int]:
    """Returns the configuration to train, and the block chosen for the devices."""
    config = load_config(None, [f"task.name={task}", f"algo.population={population}", f"seed={_SEED}"])
    block = choose_block(config, workers)
    return override_config(config, [f"engine.block={block}"]), block


def first_generations(config: RunConfig, workers: WorkerMesh) -> tuple[list[Early], RunState]:
    """Returns the cost of the first generations, for each of `EARLY`, and the state of a trained population."""
    engine = build_engine(config, workers)
    state = engine.initial_state()
    step = engine.compile(state)
    seconds, simulated, slowest = 0.0, 0, 0.0
    early = []
    for generation in range(1, LATE + 1):
        before = time.perf_counter()
        state, measured = step(state)
        # One at a time: XLA's collectives on CPUs may wait for each other for ever where two programs are under way.
        jax.block_until_ready(measured)
        seconds += time.perf_counter() - before
        simulated += int(measured["steps_simulated"])
        slowest += float(measured["episode_length_max"])
        if generation in EARLY:
            counted = int(state.env_steps)
            early.append(Early(seconds, counted, counted / simulated, round(slowest)))
    return early, state
