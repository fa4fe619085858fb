"""Builds the engine of a run from its configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from evoconn_cli.config.registry import find
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.generation import Generation, compile_generation
from evoconn_cli.engine.kernel_choice import KernelChoice, choose_kernel
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.plugin_checks import check_plugins
from evoconn_cli.engine.rollout import Rollout
from evoconn_cli.engine.state import RunState, initial_run_state
from evoconn_cli.engine.strategies import Metrics, Strategy
from evoconn_cli.engine.strategies.shaping import SHAPINGS
from evoconn_cli.networks import Network
from evoconn_cli.tasks import Task, make_task

CPU_BLOCK = 64
"""Members in lock-step on a CPU: few, so that a block's state stays in cache and its slowest member costs little."""


class Engine(NamedTuple):
    """Everything that one run computes with."""

    task: Task
    network: Network
    strategy: Strategy
    kernel: KernelChoice
    generation: Generation
    initial_state: Callable[[], RunState]
    compile: Callable[[RunState], Callable[[RunState], tuple[RunState, Metrics]]]


def choose_block(config: RunConfig, workers: WorkerMesh) -> int:
    """Returns the number of members that run in lock-step: as configured, else by platform.

    A GPU's time goes into launching kernels, so one block takes a device's whole share of the population.
    """
    if config.engine.block is not None:
        return config.engine.block
    share = -(-config.algo.population // workers.num_workers)
    return min(CPU_BLOCK, config.algo.population) if workers.on_cpu else share


def build_engine(config: RunConfig, workers: WorkerMesh, task: Task | None = None) -> Engine:
    """Returns the engine of a run.

    Args:
        config: Configuration of the run, with `engine.block` set.
        workers: Devices.
        task: Task to use instead of the configured one, with its episode limit.

    Raises:
        ConfigError: an unknown name, or a kernel that was asked for and cannot run.
        PluginError: a plug-in that makes what the engine cannot use.
    """
    if config.engine.block is None:
        raise ValueError("engine.block is not resolved")
    task = task or make_task(config.task)
    network = find("network", config.network.name).made(
        Network,
        config.network,
        observation_size=task.observation_size,
        action_size=task.action_size,
        on_cpu=workers.on_cpu,
    )
    kernel = choose_kernel(config, workers, network, task.observation_size)
    if kernel.name == "pallas":
        assert network.fused is not None
        network = network.fused(False)
    strategy = find("strategy", config.algo.name).made(Strategy, config.algo, network)
    check_plugins(config, network=network, strategy=strategy)
    rollout = Rollout(
        task,
        network,
        first_episode=config.rollout.fitness == "first_episode",
        all_steps=config.rollout.normalizer == "all_steps",
        warmup_steps=config.rollout.warmup_steps,
        on_cpu=workers.on_cpu,
    )
    generation = Generation(
        rollout,
        strategy,
        workers,
        population=config.algo.population,
        evaluation_copies=config.algo.num_evaluation_copies,
        block=config.engine.block,
        fresh_resets=config.rollout.resets == "fresh",
        shaping=SHAPINGS[config.algo.shaping],
        shaping_generations=config.algo.shaping_generations,
        alive_bonus=config.rollout.alive_bonus,
        alive_bonus_generations=config.rollout.alive_bonus_generations,
    )
    return Engine(
        task=task,
        network=network,
        strategy=strategy,
        kernel=kernel,
        generation=generation,
        initial_state=lambda: initial_run_state(strategy, observation_size=task.observation_size, seed=config.seed),
        compile=lambda state: compile_generation(generation, state),
    )
