"""Describes what a network computes: equations, and constants with their units."""

from __future__ import annotations

from typing import Any

import numpy as np

from evoconn_cli.export.connectome import Connectome

CONSTANTS_FILE = "constants.json"

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

_WEIGHTS_ARE_REAL = {
    "On": "Once an environment step, from an observation [O]; @ is the matrix product, kernels are [pre, post]:",
    "2.": "2. i_in = gain_input · (x @ kernel_in)",
    "3.": "3. arrived = spikes @ kernel_h; spikes are those of the sub-step before.",
    "8.": "8. impulse = 1 / dt where a neuron spikes, else 0; rate = fma(alpha_out, rate - impulse, impulse)",
    "9.": "9. raw_action = gain_output · (rate @ kernel_out); action is it, clipped to [-1, 1].",
}
"""Replacements for the lines of `UPDATE` with these beginnings, for real weights."""

_WEIGHT_UNITS = {
    "input": "1 (of the potential): what x = 1 adds to i_in",
    "recurrent": "1 (of the potential): what a spike adds to i_syn",
    "output": "ms: sign · gain_output; rates [1/ms] have their sign already, so that gain_output alone is their factor",
}


def equations(connectome: Connectome) -> list[str]:
    """Returns the equations of an environment step, line by line."""
    if connectome.neurons is None:
        return [
            "Once an environment step; @ is the matrix product, NAME stands for the array kernels/.../NAME/kernel "
            "[pre, post], and b_NAME for biases/.../NAME/bias:",
            "x = (observation - mean) / std",
            *connectome.equations,
            "action is raw_action, clipped to [-1, 1]",
            "h and c live on to the next environment step; they begin as 0.",
        ]
    if connectome.neuron_types is not None:
        return list(UPDATE)
    # Indented lines explain boolean layers.
    return [_WEIGHTS_ARE_REAL.get(line[:2], line) for line in UPDATE if not line.startswith(" ")]


def constants_document(connectome: Connectome) -> dict[str, Any]:
    """Returns the JSON values that are needed besides the tables or weights of a network to run it.

    Gains are the effective ones. Those of the configuration are factors by which they are scaled with the sizes of the
    network.
    """
    document: dict[str, Any] = {
        "network": connectome.network.name,
        "task": connectome.config.task.name,
        "sizes": sizes(connectome),
        "update": equations(connectome),
    }
    if connectome.neurons is None:
        return document
    document["constants"] = constants_with_units(connectome)
    document["functions"] = "fma(a, b, c) is a · b + c; S is a sum. A bundle says how each operation is rounded."
    document["gains"] = (
        "gain_input, gain_recurrent and gain_output are what is computed with. gain_in, gain_recurrent and gain_out "
        "under config in the provenance are the settings from which they follow."
    )
    if connectome.neuron_types is not None:
        document["kernels"] = (
            "input, recurrent and output: 1 at [pre_index, post_index] of every edge of that layer, else 0"
        )
        document["weight"] = _WEIGHT_UNITS
        document["initial_state"] = (
            "of the recorded episode: v_init, i_syn_init, rate_init and spiked_init of the nodes"
        )
    return document


def sizes(connectome: Connectome) -> dict[str, int]:
    """Returns the numbers of units and sub-steps."""
    found = {"observations": connectome.observation_size, "neurons": connectome.num_neurons}
    if connectome.neuron_types is not None:
        found["inputs"] = 2 * connectome.observation_size
        found["excitatory"] = int((connectome.neuron_types > 0).sum())
    found["actions"] = connectome.action_size
    if connectome.neurons is not None:
        found["substeps"] = connectome.constants.num_substeps
    return found


def constants_with_units(connectome: Connectome) -> dict[str, dict[str, Any]]:
    """Returns every constant as a number, as a hex float, and as the float32 of the computation."""
    constants, gains = connectome.constants, connectome.gains
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
