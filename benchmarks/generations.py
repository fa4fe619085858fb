"""What whole generations cost, early in training and with full episodes."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.interleaving import Interleaved, interleave
from evoconn_cli.config.schema import RunConfig, SpikingConfig
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.state import RunState
from evoconn_cli.runs.build import build_engine
from evoconn_cli.tasks import Task, TaskState
from evoconn_cli.tasks.registry import make_task

EARLY = (10, 20)
"""Generations that count as early."""

LATE = 60
"""Generations after which a population counts as trained."""

FULL_EPISODE = 1000
"""Steps of an episode that no member ends early."""


class Early(NamedTuple):
    """The first so many generations of a training, all together."""

    seconds: float
    counted_steps: int  # environment steps that counted
    share_counted: float  # of all steps simulated
    slowest_steps: int  # of the slowest member of each generation, added up


class FullEpisodes(NamedTuple):
    """Generations in which all episodes are full."""

    times: Interleaved  # of a generation, a step and member [s]
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


def full_episodes(
    config: RunConfig,
    workers: WorkerMesh,
    state: RunState,
    beside: Mapping[str, Callable[[], float]],
    repetitions: int = 9,
) -> FullEpisodes:
    """Returns the cost of a generation that starts from `state` and in which nobody falls.

    Args:
        config: of a spiking network.
        workers: the devices.
        state: of the population; it stays as it is.
        beside: what the generation is compared with, by name: each runs once and returns its time.
        repetitions: generations.
    """
    assert isinstance(config.network, SpikingConfig)
    step = build_engine(config, workers, task=_nobody_falls(make_task(config.task.name))).compile(state)
    rates = []

    def generation() -> float:
        copy, done = jax.tree.map(jnp.copy, state), int(state.env_steps)
        before = time.perf_counter()
        copy, measured = step(copy)
        jax.block_until_ready(measured)
        seconds = time.perf_counter() - before
        rates.append(float(measured["spikes_per_ms"]))
        return seconds / (int(copy.env_steps) - done)

    times = interleave(generation, beside, repetitions)
    return FullEpisodes(times, statistics.median(rates) * config.network.dt_ms * config.network.num_neurons)


def _nobody_falls(task: Task) -> Task:
    def step(state: TaskState, action: jax.Array) -> TaskState:
        after = task.step(state, action)
        return after._replace(done=after.steps >= FULL_EPISODE)

    return dataclasses.replace(task, step=step)
