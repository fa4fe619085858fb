"""What whole generations cost, early in training and with full episodes."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

from evoconn_cli.config.loading import override_config
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.state import RunState
from evoconn_cli.runs.build import build_engine
from evoconn_cli.tasks import Task, TaskState

EARLY = (10, 20)
"""Generations that count as early."""

LATE = 60
"""Generations after which a population counts as trained: its neurons fire as sparsely as they will."""

FULL_EPISODE = 1000
"""Steps of an episode that no member ends early."""


class Early(NamedTuple):
    """The first so many generations of a training, all together."""

    seconds: float
    counted_steps: int  # environment steps that counted
    share_counted: float  # of all steps simulated
    slowest_steps: int  # of the slowest member of each generation, added up


class Late(NamedTuple):
    """A generation in which all episodes are full."""

    seconds_a_step: float  # and member
    spikes_a_substep: float  # of all neurons


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


def late_generation(config: RunConfig, workers: WorkerMesh, state: RunState, repetitions: int = 3) -> Late:
    """Returns the cost of a generation that starts from `state` and in which nobody falls."""
    config = override_config(config, [f"task.episode_length={FULL_EPISODE}"])
    engine = build_engine(config, workers, task=_nobody_falls(build_engine(config, workers).task))
    step = engine.compile(state)
    seconds, rates = [], []
    for _ in range(repetitions):
        copy, done = jax.tree.map(jnp.copy, state), int(state.env_steps)
        before = time.perf_counter()
        copy, measured = step(copy)
        jax.block_until_ready(measured)
        seconds.append((time.perf_counter() - before) / (int(copy.env_steps) - done))
        rates.append(float(measured.get("spikes_per_ms", 0.0)))
    return Late(statistics.median(seconds), statistics.median(rates) * _substep_ms(config) * config.network.num_neurons)


def _nobody_falls(task: Task) -> Task:
    def step(state: TaskState, action: jax.Array) -> TaskState:
        after = task.step(state, action)
        return after._replace(done=after.steps >= FULL_EPISODE)

    return dataclasses.replace(task, step=step)


def _substep_ms(config: RunConfig) -> float:
    return getattr(config.network, "dt_ms", 0.0)
