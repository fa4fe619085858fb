"""A small network to export, which no training made."""

from __future__ import annotations

import dataclasses

import numpy as np
from connectome_cases import random_connectome

from evoconn_cli.config.formats import ExportOptions
from evoconn_cli.export.connectome import Connectome, ExportSource
from evoconn_cli.export.episode import Episode
from evoconn_cli.networks import Gains


def small_connectome() -> Connectome:
    """Returns 6 neurons, 3 observations and 2 actions, with gains and a normaliser that are no round numbers."""
    random = np.random.default_rng(0)
    connectome = random_connectome(6)
    return dataclasses.replace(
        connectome,
        neurons=connectome.neurons._replace(gains=Gains(input=0.1 / 3, recurrent=1.7, output=0.3)),
        obs_mean=random.random(3, dtype=np.float32),
        obs_std=random.random(3, dtype=np.float32) + 0.5,
    )


def small_episode(connectome: Connectome, num_steps: int = 3) -> Episode:
    """Returns an episode that nothing computed, of the right shapes, with a state for every neuron."""
    random = np.random.default_rng(1)
    neurons, substeps = connectome.num_neurons, connectome.constants.num_substeps

    def drawn(*shape: int) -> np.ndarray:
        return random.random(shape, dtype=np.float32)

    def states(*leading: int) -> dict[str, np.ndarray]:
        arrays = {name: drawn(*leading, neurons) for name in ("v", "i_syn", "rate", "spikes")}
        return arrays | {"spikes": arrays["spikes"] > 0.5}

    observations, actions = connectome.observation_size, connectome.action_size
    return Episode(
        seed=0, dt_s=0.01, observations=drawn(num_steps, observations), normalized=drawn(num_steps, observations),
        raw_actions=drawn(num_steps, actions), actions=drawn(num_steps, actions), rewards=drawn(num_steps),
        ended=False, steps_as_trained=num_steps, initial=states(), input_currents=drawn(num_steps, neurons),
        spikes=drawn(num_steps, substeps, neurons) > 0.9, states=states(num_steps),
    )  # fmt: skip


def small_source(connectome: Connectome | None = None, **options) -> ExportSource:
    """Returns a source with the small network and an episode."""
    connectome = connectome or small_connectome()
    return ExportSource(
        [connectome],
        lambda: small_episode(connectome),
        provenance={"run": "r", "generation": 7},
        options=ExportOptions(**options),
    )


def unplayed_source(connectome: Connectome | None = None) -> ExportSource:
    """Returns a source whose episode must not be asked for."""

    def record():
        raise AssertionError("this format has no use for an episode")

    return ExportSource([connectome or small_connectome()], record, provenance={"run": "r", "generation": 7})


def without_probs(connectome: Connectome) -> Connectome:
    """Returns a network whose probabilities are not known."""
    return dataclasses.replace(connectome, probs={})
