"""Evaluating opened runs: which programs are compiled, and what comes back as NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from evoconn_cli.config.perturbations import KINDS
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.evaluation import EpisodeResults, evaluation_key, make_evaluation
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.perturbations import Perturbation
from evoconn_cli.engine.state import RunState
from evoconn_cli.runs.evaluation.neurobench import Figures, neurobench_figures
from evoconn_cli.runs.evaluation.statistics import Summary, summarize
from evoconn_cli.runs.opened import OpenedRun
from evoconn_cli.tasks import Task
from evoconn_cli.tasks.physics import PhysicsScale
from evoconn_cli.tasks.registry import make_task

_Program: TypeAlias = Callable[[RunState, jax.Array, Perturbation], EpisodeResults]

_CPU_BLOCK = 64
"""Episodes in lock-step on a CPU, as in training."""


class Evaluated(NamedTuple):
    """A run's policy after its episodes."""

    opened: OpenedRun
    setting: dict[str, float]  # perturbations by name
    results: EpisodeResults  # NumPy arrays
    returns: Summary  # of the episodes
    figures: Figures


def evaluate(
    runs: Sequence[OpenedRun],
    settings: Sequence[dict[str, float]],
    *,
    num_episodes: int,
    seed: int,
    sampled: bool,
) -> Iterator[Evaluated]:
    """Yields the policy of every run after its episodes, once for every setting.

    The same seed gives the same initial states to every run, setting and network. Runs of one configuration, which
    differ in their seeds, share their compiled programs.

    Args:
        runs: opened with the same devices.
        settings: perturbations by name; an empty dictionary for none.
        num_episodes: E.
        seed: of all draws, 0 to 2^32 - 1.
        sampled: every episode has a sample of the connections (or weights) of its own, as in training.

    Raises:
        ConfigError: a perturbation that the task does not allow.
    """
    for opened in runs:  # what a task does not allow is known before the first episode
        for setting in settings:
            _make_task(opened.config, _split(setting)[0])
    programs: dict[Any, _Program] = {}
    key = evaluation_key(seed)
    for opened in runs:
        for setting in settings:
            physics, perturbation = _split(setting)
            config = opened.config
            same = (
                opened.strategy.name,
                config.task,
                config.algo,
                config.network,
                config.rollout.warmup_steps,
                physics,
            )
            if same not in programs:
                programs[same] = _compile(opened, physics, num_episodes=num_episodes, sampled=sampled)
            gathered = jax.device_get(programs[same](opened.state, key, perturbation))
            results = jax.tree.map(lambda x: x[:num_episodes], gathered)
            figures = neurobench_figures(config, opened.network, results)
            yield Evaluated(opened, setting, results, summarize(results.returns, seed), figures)


def choose_block(num_episodes: int, workers: WorkerMesh) -> int:
    """Returns how many episodes run in lock-step."""
    share = -(-num_episodes // workers.num_workers)
    return min(_CPU_BLOCK, share) if workers.first_device.platform == "cpu" else share


def _split(setting: dict[str, float]) -> tuple[PhysicsScale, Perturbation]:
    """Returns what changes the task, and what changes the policy and what it sees."""
    by_field = {name.replace("-", "_"): (KINDS[name].physical, value) for name, value in setting.items()}
    physics = {field: value for field, (physical, value) in by_field.items() if physical}
    others = {field: jnp.float32(value) for field, (physical, value) in by_field.items() if not physical}
    return PhysicsScale(**physics), Perturbation(**others)


def _make_task(config: RunConfig, physics: PhysicsScale) -> Task:
    return make_task(
        config.task.name,
        episode_length=config.task.episode_length,
        action_repeat=config.task.action_repeat,
        physics=physics,
    )


def _compile(opened: OpenedRun, physics: PhysicsScale, *, num_episodes: int, sampled: bool) -> _Program:
    config, workers = opened.config, opened.workers
    evaluation = make_evaluation(
        _make_task(config, physics),
        opened.network,
        opened.strategy,
        workers,
        num_episodes=num_episodes,
        block=choose_block(num_episodes, workers),
        sampled=sampled,
        warmup_steps=config.rollout.warmup_steps,
    )
    whole, sharded = workers.whole, workers.sharded
    program = jax.jit(evaluation.run, in_shardings=(whole, whole, whole, whole, sharded), out_shardings=sharded)
    episodes = jax.device_put(evaluation.episodes, sharded)

    def run(state: RunState, key: jax.Array, perturbation: Perturbation) -> EpisodeResults:
        return program(*jax.device_put((state.strategy, state.normalizer, key, perturbation), whole), episodes)

    return run
