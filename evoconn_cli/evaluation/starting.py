"""Reads the connectome that a new run starts from (`--init`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evoconn_cli.config.schema import RunConfig, most_steps
from evoconn_cli.engine.build import Engine
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.errors import ConfigError
from evoconn_cli.evaluation.opened import OpenedRun, build_for_use, open_run
from evoconn_cli.networks.layers import layer_arrays
from evoconn_cli.runs.source import Source
from evoconn_cli.training.opening import Start


def read_start(
    source: Source, config: RunConfig, workers: WorkerMesh, note: Callable[[str], None] = lambda text: None
) -> Start:
    """Returns connections and normaliser of the deterministic network of a run, checkpoint or bundle.

    Args:
        source: The network.
        config: Configuration of the run that starts from it, with the block set.
        workers: Devices of that run.
        note: Called with messages for the user.

    Raises:
        ConfigError: The networks differ in a size, or the strategy cannot start from a connectome.
        EvoconnError: The source cannot be read.
    """
    opened, engine = open_run(source.path, workers=workers, note=note), build_for_use(config, workers)
    if engine.strategy.init_near is None:
        raise ConfigError(f"--init {source.name}: the strategy {config.algo.name} cannot start from a connectome.")
    _check_sizes(source.name, opened, config, engine)
    layers = layer_arrays(opened.network, opened.candidates("deterministic", 0))
    normalizer = opened.state.normalizer
    return Start(
        connections={name: np.asarray(values[0]) for name, values in layers.items()},
        obs_mean=np.asarray(normalizer.mean),
        obs_std=np.asarray(normalizer.std),
        # Bundles of earlier versions do not say it: at most as many as there were environment steps.
        obs_count=float(normalizer.count) or float(most_steps(opened.config) * max(1, opened.generation)),
        origin={
            "from": source.name,
            "task": opened.config.task.name,
            "generation": opened.generation,
            **({"edit": str(opened.edit)} if opened.edit else {}),
        },
    )


def _check_sizes(name: str, opened: OpenedRun, config: RunConfig, engine: Engine) -> None:
    """Checks that a network fits the run that is to start from it."""
    has = (opened.task.observation_size, opened.task.action_size, opened.config.network.num_neurons)
    wanted = (engine.task.observation_size, engine.task.action_size, config.network.num_neurons)
    shapes = [{path: layer.shape for path, layer in one.shapes.items()} for one in (opened.network, engine.network)]
    if shapes[0] == shapes[1]:
        return
    what, remedies = ("observations", "actions", "neurons"), []
    differ = [f"{was} {label} (not {now})" for label, was, now in zip(what, has, wanted, strict=True) if was != now]
    if has[:2] != wanted[:2]:
        remedies.append(
            f"choose a task with the sizes of {opened.config.task.name}, or leave --task out to train that one"
        )
    if has[2] != wanted[2] or not remedies:
        remedies.append(f"set network.num_neurons={has[2]}" if has[2] != wanted[2] else "leave the keys of network out")
    raise ConfigError(
        f"--init {name}: its network does not fit the task {config.task.name} and network.num_neurons={wanted[2]}. It "
        f"has {', '.join(differ) or 'layers of other shapes'}. Remedy: {', and '.join(remedies)}."
    )
