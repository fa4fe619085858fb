"""Connectomes that no run made: random ones, and ones written down by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evoconn_cli.config.loading import load_config
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.episode import Episode
from evoconn_cli.networks import Gains, SpikingNeurons
from evoconn_cli.networks.lif import LifConstants


def connectome_of(layers: Mapping[str, np.ndarray], probs: Mapping[str, np.ndarray] | None = None, **given):
    """Returns a conn_snn with these layers.

    Args:
        layers: `input` [2·O, N], `recurrent` [N, N] and `output` [N, A] bool.
        probs: evolved probabilities; 0.9 and 0.1 by default.
        given: `excitatory_ratio` and `generation`.
    """
    num_neurons = len(layers["recurrent"])
    ratio = given.get("excitatory_ratio", 0.5)
    config = load_config(
        None, ["task.name=probe_sign", f"network.num_neurons={num_neurons}", f"network.excitatory_ratio={ratio}"]
    )
    size = len(layers["input"]) // 2
    return Connectome(
        config=config,
        generation=given.get("generation", 7),
        policy="deterministic",
        layers=dict(layers),
        biases={},
        probs={n: np.where(k, 0.9, 0.1).astype(np.float32) for n, k in layers.items()} if probs is None else probs,
        neurons=SpikingNeurons(
            num_neurons, round(num_neurons * ratio), LifConstants.of(config.network), Gains(0.3, 1.0, 0.5)
        ),
        obs_mean=np.zeros(size, np.float32),
        obs_std=np.ones(size, np.float32),
        action_size=layers["output"].shape[1],
    )


def random_connectome(num_neurons: int = 20, *, seed: int = 0, density: float = 0.5, **given) -> Connectome:
    """Returns a conn_snn of 3 observations and 2 actions whose connections are drawn independently."""
    rng = np.random.default_rng(seed)
    shapes = {"input": (6, num_neurons), "recurrent": (num_neurons, num_neurons), "output": (num_neurons, 2)}
    probs = {name: rng.uniform(1e-3, 1 - 1e-3, shape).astype(np.float32) for name, shape in shapes.items()}
    return connectome_of({name: p > 1 - density for name, p in probs.items()}, probs, **given)


def random_episode(connectome: Connectome, *, num_steps: int = 4, share: float = 0.1) -> Episode:
    """Returns an episode with random spikes, and the synaptic currents that follow, summed neuron by neuron."""
    rng = np.random.default_rng(0)
    constants, num_neurons = connectome.constants, connectome.num_neurons
    spikes = rng.random((num_steps, constants.num_substeps, num_neurons)) < share
    before, i_syn, after = rng.random(num_neurons) < share, np.zeros(num_neurons), []
    silent = np.zeros(num_neurons, np.float32)
    initial = {"v": silent, "i_syn": silent, "rate": silent, "spikes": before}
    weights = connectome.gains.recurrent * connectome.neuron_types[:, None] * connectome.layers["recurrent"]
    for step in spikes:
        for now in step:
            i_syn, before = constants.alpha_syn * i_syn + before @ weights, now
        after.append(i_syn)
    size, actions, unmoved = connectome.observation_size, connectome.action_size, np.zeros((num_steps, num_neurons))
    return Episode(
        seed=0,
        dt_s=0.008,
        initial=initial,
        observations=rng.normal(size=(num_steps, size)),
        normalized=rng.normal(size=(num_steps, size)),
        input_currents=rng.normal(size=(num_steps, num_neurons)),
        spikes=spikes,
        states={"v": unmoved, "i_syn": np.array(after), "rate": unmoved, "spikes": spikes[:, -1]},
        raw_actions=np.zeros((num_steps, actions)),
        actions=np.zeros((num_steps, actions)),
        rewards=np.zeros(num_steps),
        ended=False,
        steps_as_trained=num_steps,
    )
