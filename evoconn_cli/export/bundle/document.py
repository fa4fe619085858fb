"""What a bundle says in words and numbers: network.json and its README."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evoconn_cli import __version__
from evoconn_cli.errors import EvoconnError
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.episode import Episode
from evoconn_cli.export.projections import excitatory_neurons
from evoconn_cli.export.units import unit_names

FORMAT = "evoconn-bundle"
VERSION = 1
NETWORK_FILE = "network.json"

UPDATE = (
    "x = (observation - mean) / std, not clipped (std is within [1e-6, 1e6]); the input is [x, -x].",
    "i_in = gain_input · sum over inputs, one after the other; once an environment step.",
    "In each sub-step, for all neurons at once:",
    "1. arrived = excitatory minus inhibitory spikes of the sub-step before that reach the neuron, a whole number.",
    "2. i_syn = alpha_syn · i_syn + gain_recurrent · arrived",
    "3. target = v_rest + i_syn + i_in",
    "4. v = target + alpha_m · (v - target)",
    "5. The neuron spikes where v > v_threshold, strictly; there v = v_rest.",
    "6. impulse = type / dt where it spiked, else 0; rate = impulse + alpha_out · (rate - impulse)",
    "After the last sub-step: action = gain_output · sum over neurons of rate, clipped to [-1, 1].",
    "That sum is one of windows of 32 neighbours, with zeros at both ends, and then of the windows likewise.",
    "v, i_syn, rate and the spikes of the last sub-step live on to the next environment step.",
)


class Arithmetic(NamedTuple):
    """Roundings of the recording."""

    fused: bool  # alpha times something plus something is rounded once, not twice
    exact_actions: bool  # the read-out sums are replayed to the last bit, otherwise to 1e-5


def read_document(folder: Path) -> dict[str, Any]:
    """Returns what network.json of a bundle holds.

    Raises:
        EvoconnError: the bundle has another format than this version of evoconn reads.
    """
    document = json.loads((folder / NETWORK_FILE).read_text(encoding="utf-8"))
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        raise EvoconnError(
            f"{folder} is a bundle of version {document.get('version')}; this version of evoconn reads {VERSION}."
        )
    return document


def network_document(connectome: Connectome, episode: Episode, arithmetic: Arithmetic) -> dict[str, Any]:
    """Returns what network.json holds.

    Args:
        connectome: of a boolean network.
        episode: that was recorded with it.
        arithmetic: of the recording.
    """
    constants = connectome.constants
    neurons = connectome.num_neurons
    return {
        "format": FORMAT,
        "version": VERSION,
        "network": connectome.network.name,
        "task": connectome.config.task.name,
        "sizes": {
            "observations": connectome.observation_size,
            "inputs": 2 * connectome.observation_size,
            "neurons": neurons,
            "excitatory": int(excitatory_neurons(connectome).sum()),
            "actions": connectome.action_size,
            "substeps": constants.num_substeps,
        },
        "names": unit_names(connectome),
        "constants": _constants(connectome),
        "update": list(UPDATE),
        "arithmetic": {
            "type": "float32",
            "fused": arithmetic.fused,
            "fused_means": "alpha · something + something (steps 2, 4, 6) is rounded once, not twice",
            "subnormals": "taken for 0",
            "exact_actions": arithmetic.exact_actions,
        },
        "kernels": "[pre, post]; in kernels.npz packed along post as by numpy.packbits",
        "episode": {
            "steps": episode.num_steps,
            "step_seconds": episode.dt_s,
            "ended": episode.ended,
            "return": float(np.sum(episode.rewards, dtype=np.float64)),
            "spikes": int(episode.spikes.sum()),
            "steps_equal_to_the_program_of_training": episode.steps_as_trained,
        },
    }


def _constants(connectome: Connectome) -> dict[str, dict[str, Any]]:
    """Returns every constant: as a number, as a hex float, and as the float32 that is computed with."""
    constants, gains = connectome.constants, connectome.gains
    assert gains is not None
    values = {
        "tau_syn": (constants.tau_syn_ms, "ms"),
        "tau_m": (constants.tau_m_ms, "ms"),
        "tau_out": (constants.tau_out_ms, "ms"),
        "dt": (constants.dt_ms, "ms"),
        "v_rest": (constants.v_rest, "1"),
        "v_threshold": (constants.v_threshold, "1"),
        "alpha_syn": (constants.alpha_syn, "1"),
        "alpha_m": (constants.alpha_m, "1"),
        "alpha_out": (constants.alpha_out, "1"),
        "gain_input": (gains.input, "1"),
        "gain_recurrent": (gains.recurrent, "1"),
        "gain_output": (gains.output, "ms"),
    }
    return {
        name: {"value": value, "unit": unit, "hex": float(value).hex(), "float32": float(np.float32(value)).hex()}
        for name, (value, unit) in values.items()
    }


def readme(connectome: Connectome, episode: Episode, holds: Mapping[str, str]) -> str:
    """Returns the README of a bundle.

    Args:
        connectome: of a boolean network.
        episode: that was recorded with it.
        holds: what each file holds.
    """
    config = connectome.config
    connections = {name: int(kernel.sum()) for name, kernel in connectome.kernels.items()}
    excitatory = int(excitatory_neurons(connectome).sum())
    files = "\n".join(f"| `{name}` | {what} |" for name, what in holds.items())
    update = "\n".join(f"    {line}" for line in UPDATE)
    return f"""# A spiking network that was evolved for {config.task.name}

- {connectome.num_neurons} neurons: the first {excitatory} are excitatory, the others inhibitory.
- {connections["input"]} connections from {2 * connectome.observation_size} inputs, {connections["recurrent"]} among
  neurons, {connections["output"]} to {connectome.action_size} actions. A connection is there or not; none has a weight.
- Generation {connectome.generation}, {connectome.policy} connections; written by evoconn {__version__}.

    python run_network.py

replays the recorded episode of {episode.num_steps} steps with NumPy alone, and says where the first difference is, if
there is one. In a program of your own: `from run_network import Network`.

| file | holds |
|---|---|
{files}
| `checksums.json` | SHA-256 of each file |

Kernels are `[pre, post]`. Arrays in `episode.npz`, for T steps of S sub-steps, N neurons, O observations, A actions:
`observations` and `normalized` [T, O], `input_currents` [T, N], `spikes` [T, S, ceil(N / 8)] packed along the neurons
as by `numpy.packbits`, `potentials`, `synaptic_currents` and `rates` [T, N] at the end of each step, `raw_actions` and
`actions` (clipped) [T, A], `rewards` [T].

## The network

{update}

`network.json` has the constants with their units, also as hex floats; `float32` is the number that is computed with.

## Changing it

Edit the connections in one form, `edges.csv`, `kernels.npz` or the files in `csr/`, and leave the others as they are:

    evoconn evaluate THIS_DIRECTORY

says what was changed, and evaluates the network as it is now. `evoconn export-connectivity THIS_DIRECTORY --out NEW`
makes a bundle of it, with an episode of its own.
"""
