"""The units of a boolean network and the projections between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.episode import Episode
from evoconn_cli.tasks import make_task

Table: TypeAlias = dict[str, np.ndarray]
"""Columns of equal length by name."""

POPULATIONS = ("inputs", "neurons", "actions")

LAYER_POPULATIONS = {
    "input": ("inputs", "neurons"),
    "recurrent": ("neurons", "neurons"),
    "output": ("neurons", "actions"),
}
"""Populations of the sending and the receiving units of each layer."""

NODE_COLUMNS = {
    "node": "name, by which edges refer to it",
    "population": "inputs, neurons or actions",
    "index": "of the unit in its population, from 0",
    "type": "observation, excitatory, inhibitory or action",
    "sign": "+1 or -1, of what the unit sends; 0 for actions, which send nothing",
    "observation": "number of the observation that an input carries; -1 for other units",
    "factor": "+1 where an input carries x, -1 where it carries -x; 0 for other units",
    "mean": "that is subtracted from the observation to give x; 0 for other units",
    "std": "by which the difference is divided; 1 for other units",
}

STATE_COLUMNS = {
    "v_init": "membrane potential of a neuron when the recorded episode begins; 0 for other units, as below",
    "i_syn_init": "its synaptic current then",
    "rate_init": "its read-out rate then, with the sign of the neuron [1/ms]",
    "spiked_init": "1 where it spiked in the sub-step before, else 0",
    "firing_rate": "its mean in the recorded episode [spikes/s of network time]",
}
"""Columns that need a recorded episode."""


LAYERS = tuple(LAYER_POPULATIONS)
"""Layers in the order in which they are shown."""


def unit_names(connectome: Connectome) -> dict[str, list[str]]:
    """Returns the names of all units by population.

    `x3+` carries the normalised observation 3 and `x3-` its negative; `n3` is a neuron and `a3` an action. No name
    begins with a sign, because spreadsheets would read it as a formula.
    """
    observations = range(connectome.observation_size)
    return {
        "inputs": [f"x{i}+" for i in observations] + [f"x{i}-" for i in observations],
        "neurons": [f"n{i}" for i in range(connectome.num_neurons)],
        "actions": [f"a{i}" for i in range(connectome.action_size)],
    }


def unit_labels(connectome: Connectome) -> tuple[Sequence[str], Sequence[str]]:
    """Returns the names that the task gives to observations and to actions; none if it does not name each of them."""
    task = make_task(connectome.config.task)
    observations, actions = task.observation_names, task.action_names
    return (
        observations if len(observations) == connectome.observation_size else (),
        actions if len(actions) == connectome.action_size else (),
    )


def unit_types(connectome: Connectome) -> dict[str, np.ndarray]:
    """Returns the types of all units by population."""
    return {
        "inputs": np.full(2 * connectome.observation_size, "observation"),
        "neurons": np.where(neuron_signs(connectome) > 0, "excitatory", "inhibitory"),
        "actions": np.full(connectome.action_size, "action"),
    }


def unit_signs(connectome: Connectome) -> dict[str, np.ndarray]:
    """Returns the int8 signs of what units send, by population; 1 for inputs, whose values have a sign of their own."""
    return {
        "inputs": np.ones(2 * connectome.observation_size, np.int8),
        "neurons": neuron_signs(connectome),
        "actions": np.zeros(connectome.action_size, np.int8),
    }


def neuron_signs(connectome: Connectome) -> np.ndarray:
    """Returns `[N]` int8 types of the neurons, +1 excitatory and -1 inhibitory.

    Raises:
        ValueError: The neurons have no types.
    """
    if connectome.neuron_types is None:
        raise ValueError(f"{connectome.network.name} has no neuron types")
    return connectome.neuron_types


def node_table(connectome: Connectome, episode: Episode | None = None) -> Table:
    """Returns one row per unit, with the columns of `NODE_COLUMNS`.

    Args:
        connectome: Connectome of a boolean network.
        episode: Recorded episode of the network, which adds `STATE_COLUMNS`.
    """
    size, names = connectome.observation_size, unit_names(connectome)
    num_inputs = 2 * size

    def of_inputs(values: np.ndarray, else_value: float, dtype: type) -> np.ndarray:
        others = connectome.num_neurons + connectome.action_size
        return np.concatenate([values, np.full(others, else_value)]).astype(dtype)

    def of_neurons(values: np.ndarray, dtype: type) -> np.ndarray:
        return np.pad(values, (num_inputs, connectome.action_size)).astype(dtype)

    table = {
        "node": np.array(sum(names.values(), [])),
        "population": np.repeat(POPULATIONS, [len(names[population]) for population in POPULATIONS]),
        "index": np.concatenate([np.arange(len(names[population]), dtype=np.int32) for population in POPULATIONS]),
        "type": np.concatenate(list(unit_types(connectome).values())),
        "sign": np.concatenate(list(unit_signs(connectome).values())),
        "observation": of_inputs(np.tile(np.arange(size), 2), -1, np.int32),
        "factor": of_inputs(np.repeat([1, -1], size), 0, np.int8),
        "mean": of_inputs(np.tile(connectome.obs_mean, 2), 0, np.float32),
        "std": of_inputs(np.tile(connectome.obs_std, 2), 1, np.float32),
    }
    if episode is None:
        return table
    initial, (num_steps, num_substeps, _) = episode.initial, episode.spikes.shape
    seconds = num_steps * num_substeps * connectome.constants.dt_ms / 1000
    return table | {
        "v_init": of_neurons(initial["v"], np.float32),
        "i_syn_init": of_neurons(initial["i_syn"], np.float32),
        "rate_init": of_neurons(initial["rate"], np.float32),
        "spiked_init": of_neurons(initial["spikes"], np.int8),
        "firing_rate": of_neurons(episode.spikes.sum(axis=(0, 1)) / seconds, np.float64),
    }


def excitatory_neurons(connectome: Connectome) -> np.ndarray:
    """Returns `[N]` bool, the mask of the excitatory neurons."""
    return neuron_signs(connectome) > 0


def neurons_by_type(connectome: Connectome) -> dict[str, np.ndarray]:
    """Returns `[N]` bool masks of the excitatory (`E`) and the inhibitory (`I`) neurons, without empty types."""
    excitatory = excitatory_neurons(connectome)
    return {name: chosen for name, chosen in (("E", excitatory), ("I", ~excitatory)) if chosen.any()}


def recurrent_inputs(connectome: Connectome) -> tuple[np.ndarray, np.ndarray]:
    """Returns `[N]` and `[N]`, the numbers of recurrent connections onto each neuron from E and from I neurons."""
    recurrent, excitatory = connectome.layers["recurrent"], excitatory_neurons(connectome)
    return recurrent[excitatory].sum(axis=0), recurrent[~excitatory].sum(axis=0)


def density_by_projection(connectome: Connectome) -> dict[str, float]:
    """Returns the share of possible connections that exist, by layer and by the types that they join.

    Types without neurons are left out.
    """
    layers, types = connectome.layers, neurons_by_type(connectome)
    projections = {"all": np.concatenate([layer.ravel() for layer in layers.values()]), **layers}
    for pre, chosen in types.items():
        for post, reached in types.items():
            projections[f"{pre}->{post}"] = layers["recurrent"][np.ix_(chosen, reached)]
    for name, chosen in types.items():
        projections[f"input->{name}"] = layers["input"][:, chosen]
    for name, chosen in types.items():
        projections[f"{name}->output"] = layers["output"][chosen]
    return {name: float(projection.mean()) for name, projection in projections.items()}


def recurrent_graph(connectome: Connectome) -> np.ndarray:
    """Returns `[pre, post]` bool, the recurrent connections without self-connections."""
    recurrent = connectome.layers["recurrent"]
    return recurrent & ~np.eye(len(recurrent), dtype=bool)


def spiking_weights(connectome: Connectome) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the weights of a spiking network from observations `[O, N]`, spikes `[N, N]` and rates `[N, A]`.

    Also returns `[N]`, the signs of what neurons send; 1 for neurons without types.
    """
    layers = connectome.layers
    if connectome.neuron_types is None:
        signs = np.ones(connectome.num_neurons, np.int8)
        return layers["kernel_in"], layers["kernel_h"], layers["kernel_out"], signs
    return observation_weights(connectome), layers["recurrent"], layers["output"], connectome.neuron_types


def observation_weights(connectome: Connectome) -> np.ndarray:
    """Returns `[O, N]` int8, the connection from `x` minus the one from `-x`: the effect of an observation."""
    both = connectome.layers["input"].astype(np.int8)
    return both[: connectome.observation_size] - both[connectome.observation_size :]
