"""Evaluates opened runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from evoconn_cli.config.perturbations import KINDS, setting_text
from evoconn_cli.engine.build import CPU_BLOCK
from evoconn_cli.engine.devices import memory_for
from evoconn_cli.engine.episodes import EpisodeResults, Evaluation, Learned, Perturbation, evaluation_key
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.state import RunState
from evoconn_cli.errors import DeviceMemoryError
from evoconn_cli.evaluation.neurobench import Figures, neurobench_figures
from evoconn_cli.evaluation.opened import OpenedRun, check_sampling
from evoconn_cli.evaluation.statistics import Summary, summarize
from evoconn_cli.limits import usable_memory
from evoconn_cli.tasks import PhysicsScale, make_task

_Program: TypeAlias = Callable[[RunState, jax.Array, Perturbation], EpisodeResults]

Programs: TypeAlias = dict[tuple[Any, ...], _Program]
"""Compiled programs by everything they depend on, except the devices."""


class Evaluated(NamedTuple):
    """Results of the policy of a run under one setting."""

    opened: OpenedRun
    perturbations: dict[str, float]  # strengths by name
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
    programs: Programs | None = None,
    tell: Callable[[str], None] = lambda what: None,
) -> Iterator[Evaluated]:
    """Yields the results of the policy of every run, once per setting.

    The same seed gives the same initial states to every run, setting and network. Runs that differ only in their seeds
    share their compiled programs, and so do the checkpoints of a run.

    Args:
        runs: Runs opened with the same devices.
        settings: Strengths of perturbations by name; an empty dictionary for none.
        num_episodes: E.
        seed: Random seed, 0 to 2^32 - 1.
        sampled: Whether every episode has its own sample of the connections or weights, as in training.
        programs: Compiled programs of earlier calls with the same devices; new ones are added.
        tell: Called before each evaluation with a description of it.

    Raises:
        ConfigError: The task does not allow a perturbation.
        EvoconnError: Samples of an edited bundle are asked for.
        DeviceMemoryError: The episodes do not fit the memory of a device.
    """
    for opened in runs:  # fail before the first episode
        if sampled and opened.bundle is not None:
            check_sampling(opened.bundle)
        for setting in settings:
            make_task(opened.config.task, _split(setting)[0])
    _check_memory(runs, num_episodes)
    programs = {} if programs is None else programs
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
                num_episodes,
                sampled,
            )
            what = ", ".join([f"{num_episodes} episodes", *([setting_text(setting)] if setting else [])])
            tell(what if same in programs else f"compiling, then {what}")
            with memory_for(f"{num_episodes} episodes", "Ask for fewer, or use more devices or one with more memory."):
                if same not in programs:
                    programs[same] = _compile(opened, physics, num_episodes=num_episodes, sampled=sampled)
                gathered = jax.device_get(programs[same](opened.state, key, perturbation))
            results = jax.tree.map(lambda x: x[:num_episodes], gathered)
            figures = neurobench_figures(opened.network, results)
            yield Evaluated(opened, setting, results, summarize(results.returns, seed), figures)


def episodes_in_lock_step(num_episodes: int, workers: WorkerMesh) -> int:
    """Returns the number of episodes per block, by platform as in training."""
    share = -(-num_episodes // workers.num_workers)
    return min(CPU_BLOCK, share) if workers.on_cpu else share


def _check_memory(runs: Sequence[OpenedRun], num_episodes: int) -> None:
    """Checks that the results of the episodes fit in memory, because the system kills processes that exceed it.

    Raises:
        DeviceMemoryError: There are too many episodes.
    """
    for opened in runs:
        needed = 4 * num_episodes * (opened.task.observation_size + opened.config.network.num_neurons)
        if needed > (most := usable_memory()):
            raise DeviceMemoryError(
                f"the results of {num_episodes} episodes take more than {needed / 2**30:,.0f} GiB, and this process "
                f"may have {most / 2**30:,.1f} GiB. Ask for fewer."
            )


def _split(setting: dict[str, float]) -> tuple[PhysicsScale, Perturbation]:
    """Returns the changes of the task, and those of the policy and its observations."""
    by_field = {name.replace("-", "_"): (KINDS[name].physical, value) for name, value in setting.items()}
    physics = {field: value for field, (physical, value) in by_field.items() if physical}
    others = {field: jnp.float32(value) for field, (physical, value) in by_field.items() if not physical}
    return PhysicsScale(**physics), Perturbation(**others)


def _compile(opened: OpenedRun, physics: PhysicsScale, *, num_episodes: int, sampled: bool) -> _Program:
    config, workers = opened.config, opened.workers
    evaluation = Evaluation(
        task=make_task(config.task, physics),
        network=opened.network,
        strategy=opened.strategy,
        workers=workers,
        num_episodes=num_episodes,
        block=episodes_in_lock_step(num_episodes, workers),
        sampled=sampled,
        warmup_steps=config.rollout.warmup_steps,
    )
    whole, sharded = workers.whole, workers.sharded
    program = jax.jit(evaluation.run, in_shardings=(whole, whole, whole, sharded), out_shardings=sharded)
    episodes = jax.device_put(evaluation.episodes, sharded)

    def run(state: RunState, key: jax.Array, perturbation: Perturbation) -> EpisodeResults:
        learned = Learned(state.strategy, state.normalizer)
        return program(*jax.device_put((learned, key, perturbation), whole), episodes)

    return run
