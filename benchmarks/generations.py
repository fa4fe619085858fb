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

EARLY = 10
"""Generations that count as early."""

FULL_EPISODE = 250
"""Steps of an episode that no member ends early."""


class Early(NamedTuple):
    """The first generations of a training."""

    seconds: float  # of all of them together
    counted_steps: int  # environment steps that counted
    share_counted: float  # of all steps simulated
    slowest_steps: int  # of the slowest member of each generation, added up


class Late(NamedTuple):
    """A generation in which all episodes are full."""

    seconds_a_step: float  # and member
    spikes_a_substep: float  # of all neurons


def early_generations(config: RunConfig, workers: WorkerMesh) -> tuple[Early, RunState]:
    """Returns the cost of the first generations and the state after them."""
    engine = build_engine(config, workers)
    state = engine.initial_state()
    step = engine.compile(state)
    seconds, simulated, slowest = 0.0, 0, 0.0
    for _ in range(EARLY):
        before = time.perf_counter()
        state, measured = step(state)
        jax.block_until_ready(measured)
        seconds += time.perf_counter() - before
        simulated += int(measured["steps_simulated"])
        slowest += float(measured["episode_length_max"])
    counted = int(state.env_steps)
    return Early(seconds, counted, counted / simulated, round(slowest)), state


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
