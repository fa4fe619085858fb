"""From a configuration to the engine: the only place where configuration keys become arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from evoconn_cli.config.schema import (
    PUBLISHED_ES,
    ConnSnnConfig,
    EcConfig,
    EsConfig,
    RunConfig,
    SpikingConfig,
    num_evaluation_copies,
    num_members,
)
from evoconn_cli.engine.generation import Generation, compile_generation
from evoconn_cli.engine.kernel_choice import Fused, KernelChoice, choose_kernel
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.rollout import Rollout
from evoconn_cli.engine.state import RunState, initial_run_state
from evoconn_cli.engine.strategies import Metrics, Strategy
from evoconn_cli.engine.strategies.connectivity import make_connectivity
from evoconn_cli.engine.strategies.gaussian import make_gaussian
from evoconn_cli.engine.strategies.shaping import SHAPINGS
from evoconn_cli.limits import usable_memory
from evoconn_cli.networks import Network
from evoconn_cli.networks.conn_snn import make_conn_snn
from evoconn_cli.networks.dense_snn import make_dense_snn
from evoconn_cli.networks.flax_networks import make_flax_network
from evoconn_cli.networks.lif import LifConstants
from evoconn_cli.tasks import Task
from evoconn_cli.tasks.registry import make_task

CPU_BLOCK = 64
"""Members in lock-step on a CPU: few, so that a block's state stays in cache and its slowest member costs little."""

_CPU_DENSE_TILE = 2
"""Members of a dense_snn whose recurrent weights (256 KiB each at 256 neurons) stay in a core's cache."""


_HELD_BYTES = 2**30
"""Populations whose packed connections take more than this are drawn again where they are needed, not held."""

_HELD_SHARE = 0.25
"""Share of a small memory, such as a container's, that they may take."""


class Engine(NamedTuple):
    """All that one run computes with."""

    task: Task
    network: Network
    strategy: Strategy
    kernel: KernelChoice
    generation: Generation
    initial_state: Callable[[], RunState]
    compile: Callable[[RunState], Callable[[RunState], tuple[RunState, Metrics]]]


def choose_block(config: RunConfig, workers: WorkerMesh) -> int:
    """Returns how many members run in lock-step: as configured, else by platform.

    A GPU is bound by launching kernels, so there one block takes a device's whole share of the population.
    """
    if config.engine.block is not None:
        return config.engine.block
    share = -(-config.algo.population // workers.num_workers)
    return min(CPU_BLOCK, config.algo.population) if workers.on_cpu else share


def build_engine(config: RunConfig, workers: WorkerMesh, task: Task | None = None) -> Engine:
    """Returns the engine of a run.

    Args:
        config: with `engine.block` set.
        workers: the devices.
        task: in place of the configured one, with its episode limit.

    Raises:
        ConfigError: what the strategy, the network or the kernel cannot do.
    """
    if config.engine.block is None:
        raise ValueError("engine.block is not resolved")
    task = task or make_task(
        config.task.name,
        episode_length=config.task.episode_length,
        action_repeat=config.task.action_repeat,
    )
    make_network = partial(build_network, config, task, workers.on_cpu)
    kernel = choose_kernel(config, workers, task.observation_size, make_network)
    network = make_network(kernel.fused)
    strategy = _build_strategy(config, network)
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
        evaluation_copies=num_evaluation_copies(config),
        block=config.engine.block,
        fresh_resets=config.rollout.resets == "fresh",
        shaping=SHAPINGS[config.algo.shaping],
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


def build_network(config: RunConfig, task: Task, on_cpu: bool, fused: Fused) -> Network:
    """Returns the network of a run.

    Args:
        config: Configuration of the run.
        task: Task, which gives the sizes of observation and action.
        on_cpu: Whether it runs on a CPU.
        fused: Whether the sub-steps of a spiking network run in the GPU kernel.
    """
    given = config.network
    options: dict[str, Any] = dict(
        observation_size=task.observation_size,
        action_size=task.action_size,
        num_neurons=given.num_neurons,
    )
    if not isinstance(given, SpikingConfig):
        return make_flax_network(given.name, **options)
    options |= dict(
        gain_in=given.gain_in,
        gain_recurrent=given.gain_recurrent,
        gain_out=given.gain_out,
        constants=LifConstants.of(given),
    )
    if isinstance(given, ConnSnnConfig):
        options |= dict(excitatory_ratio=given.excitatory_ratio, expected_density=given.expected_density)
        return make_conn_snn(**options, one_by_one=on_cpu, fused=fused)
    return make_dense_snn(**options, tile=_CPU_DENSE_TILE if on_cpu else None)


def _build_strategy(config: RunConfig, network: Network) -> Strategy:
    given = config.algo
    adam = dict(adam_beta1=given.adam_beta1, adam_beta2=given.adam_beta2, adam_eps=given.adam_eps)
    if isinstance(given, EsConfig):
        assert network.initial_weights is not None
        sigma, learning_rate = PUBLISHED_ES[config.network.name]
        return make_gaussian(
            initial_center=network.initial_weights,
            num_members=num_members(config),
            sigma=sigma if given.sigma is None else given.sigma,
            learning_rate=learning_rate if given.learning_rate is None else given.learning_rate,
            weight_decay=given.weight_decay,
            **adam,
        )
    assert isinstance(given, EcConfig)
    return make_connectivity(
        connection_shapes={name: kernel.shape for name, kernel in network.shapes.items()},
        num_members=num_members(config),
        keeps_candidates=network.num_parameters / 8 * given.population
        <= min(_HELD_BYTES, _HELD_SHARE * usable_memory()),
        learning_rate=given.learning_rate,
        eps=given.eps,
        weight_decay=given.weight_decay,
        initial_prob=given.initial_prob,
        **adam,
    )
