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
VERSION = 2
READABLE = (1, 2)
"""Versions that are read; in version 1 arrays had other names, see `run_network.load`."""

NETWORK_FILE = "network.json"

UPDATE = (
    "Once an environment step, from an observation [O]; input, recurrent and output are the kernels [pre, post]:",
    "1. x = (observation - mean) / std, not clipped (std is within [1e-6, 1e6])",
    "2. i_in[n] = gain_input · sum of (input[o, n] - input[O + o, n]) · x[o] over o = 0 to O - 1, in this order:",
    "   rows 0 to O - 1 of input come from x, rows O to 2 · O - 1 from -x; a term is x[o], -x[o] or 0.",
    "Then in each sub-step, for all neurons at once:",
    "3. arrived[n] = sum over neurons m of recurrent[m, n] · sign[m] · spikes[m], a whole number;",
    "   spikes are those of the sub-step before.",
    "4. i_syn = fma(alpha_syn, i_syn, gain_recurrent · arrived)",
    "5. target = (v_rest + i_syn) + i_in",
    "6. v = fma(alpha_m, v - target, target)",
    "7. spikes = v > v_threshold, strictly; where a neuron spikes, v = v_rest.",
    "8. impulse = sign / dt where a neuron spikes, else 0; rate = fma(alpha_out, rate - impulse, impulse)",
    "After the last sub-step, to an action [A]:",
    "9. raw_action[a] = gain_output · S(output[n, a] · rate[n] over n = 0 to N - 1); action is it, clipped to [-1, 1].",
    "v, i_syn, rate and the spikes of the last sub-step live on to the next environment step.",
)

ARITHMETIC = (
    "All numbers are float32: each operation that is written above is rounded to the nearest float32, one by one. "
    "Constants are the numbers under `float32`.",
    "fma(a, b, c) is a · b + c, rounded once. If `arithmetic.fused` is false: a · b is rounded, and then the sum.",
    "A result, or an observation, whose magnitude is below 2^-126 is subnormal, and replaced by 0.",
    "Sums add up their terms one after the other, from 0. Terms that are 0 may be left out in step 2, not in step 9.",
    "S(N terms): as long as there are more than 32 terms, these are made a multiple of 32 by zeros at both ends, of m "
    "missing ones floor(m / 2) in front and the others behind; the sums of each 32 neighbours are the new terms. What "
    "is left is added up. 75 terms, for example: 10 zeros in front, 11 behind, three sums, and the sum of these.",
    "If `arithmetic.exact_actions` is false, raw_action and action agree with the recording to 1e-5, and all else to "
    "the last bit.",
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
    if document.get("format") != FORMAT or document.get("version") not in READABLE:
        known = " and ".join(map(str, READABLE))
        raise EvoconnError(
            f"{folder} is a bundle of version {document.get('version')}; this version of evoconn reads {known}."
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
            "exact_actions": arithmetic.exact_actions,
            "rules": list(ARITHMETIC),
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
    arithmetic = "\n".join(f"- {line}" for line in ARITHMETIC)
    constants = connectome.constants
    network_ms, task_ms = constants.num_substeps * constants.dt_ms, 1000 * episode.dt_s
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

Arrays have the names of the equations below. There are T steps of S = {constants.num_substeps} sub-steps,
O = {connectome.observation_size} observations, N = {connectome.num_neurons} neurons, A = {connectome.action_size} actions.

| array | in | |
|---|---|---|
| `input` [2·O, N], `recurrent` [N, N], `output` [N, A] | `kernels.npz` | bits, packed along the last axis as by `numpy.packbits`; `numpy.unpackbits(bits, axis=1, count=N)`, for `output` with `count=A` |
| the same | `csr/NAME.npz` | for `scipy.sparse.load_npz` |
| the same | `probabilities.npz` | float32, the evolved probability of each connection |
| `sign` [N] | `neurons.npz` | 1 excitatory, -1 inhibitory |
| `v`, `i_syn`, `rate` [N], `spikes` [N] bool | `neurons.npz` | state in which the episode begins |
| `mean`, `std` [O] | `normalizer.npz` | of the observations |
| `observation`, `x` [T, O], `i_in` [T, N] | `episode.npz` | of each step |
| `spikes` [T, S, ceil(N / 8)] | `episode.npz` | bits, packed along the last axis: `numpy.unpackbits(bits, axis=2, count=N)` |
| `v`, `i_syn`, `rate` [T, N] | `episode.npz` | at the end of each step |
| `raw_action`, `action` [T, A], `reward` [T] | `episode.npz` | of each step |

`network.json` has the constants with their units, also as hex floats; `float32` is the number that is computed with.

## The network

{update}

## To the last bit

{arithmetic}

## Time

A step is {constants.num_substeps} sub-steps of {constants.dt_ms:g} ms, {network_ms:g} ms for the network; the task
simulates {task_ms:g} ms meanwhile. Neither follows from the other: the network gets {constants.step_ms:g} ms per step,
rounded to whole sub-steps, in every task. Time constants and rates are in the time of the network.

## Changing it

Edit the connections in one form, `edges.csv`, `kernels.npz` or the files in `csr/`, and leave the others as they are:

    evoconn evaluate THIS_DIRECTORY

says what was changed, and evaluates the network as it is now. `evoconn export-connectivity THIS_DIRECTORY --out NEW`
makes a bundle of it, with an episode of its own.
"""
