"""Small networks to export, which no training made."""

from __future__ import annotations

import dataclasses

import numpy as np

from evoconn_cli.config.loading import load_config
from evoconn_cli.export.connectome import Connectome, neuron_types
from evoconn_cli.export.formats import ExportSource
from evoconn_cli.networks import Gains


def small_connectome(num_neurons: int = 6, observation_size: int = 3, action_size: int = 2, seed: int = 0):
    """Returns a boolean network with random connections and a normaliser that does something."""
    config = load_config(None, ["task.name=probe_sign", f"network.num_neurons={num_neurons}"])
    random = np.random.default_rng(seed)
    shapes = {
        "input": (2 * observation_size, num_neurons),
        "recurrent": (num_neurons, num_neurons),
        "output": (num_neurons, action_size),
    }
    probs = {name: random.random(shape, dtype=np.float32) for name, shape in shapes.items()}
    return Connectome(
        config=config,
        generation=7,
        policy="deterministic",
        kernels={name: values > 0.5 for name, values in probs.items()},
        biases={},
        probs=probs,
        neuron_types=neuron_types(config.network),  # type: ignore[arg-type]
        gains=Gains(input=0.1 / 3, recurrent=1.7, output=0.3),
        obs_mean=random.random(observation_size, dtype=np.float32),
        obs_std=random.random(observation_size, dtype=np.float32) + 0.5,
        observation_size=observation_size,
        action_size=action_size,
    )


def unplayed_source(connectome: Connectome | None = None) -> ExportSource:
    """Returns a source whose episode must not be asked for."""

    def record():
        raise AssertionError("this format has no use for an episode")

    return ExportSource([connectome or small_connectome()], record, provenance={"run": "r", "generation": 7})


def without_probs(connectome: Connectome) -> Connectome:
    """Returns a network whose probabilities are not known."""
    return dataclasses.replace(connectome, probs={})
