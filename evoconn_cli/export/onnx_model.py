"""Writes the format onnx: the policy as one environment step, with normaliser and clipping."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from string import Template

import numpy as np
import onnx

from evoconn_cli import __version__
from evoconn_cli.export.connectome import Connectome, ExportSource
from evoconn_cli.export.equations import equations
from evoconn_cli.export.units import spiking_weights

_DOCS = {
    "observation": "observations as the task gives them, not normalised",
    "action": "actions, within [-1, 1]",
    "v": "membrane potentials",
    "i_syn": "synaptic currents",
    "rate": "read-out rates, with the sign of the neuron [1/ms]",
    "spikes": "spikes of the last sub-step",
    "h": "hidden state",
    "c": "cell state",
    "spike_train": "spikes of all sub-steps",
}
"""Meaning of inputs and outputs; `next_NAME` is NAME after the step."""

# The smallest normal float32 is 2^-126. Shrink sets to 0 what is at most `lambd`, the next smaller float32.
_FUNCTIONS = """
<domain: "evoconn", opset_import: ["" : 17], doc_string: "x; 0 if its magnitude is below 2^-126">
flushed (x) => (y) { y = Shrink <lambd = 1.1754942e-38, bias = 0.0> (x) }

<domain: "evoconn", opset_import: ["" : 17, "evoconn" : 1], doc_string: "a + b">
plus (a, b) => (y) {
  sum = Add (a, b)
  y = evoconn.flushed (sum)
}

<domain: "evoconn", opset_import: ["" : 17, "evoconn" : 1], doc_string: "a - b">
minus (a, b) => (y) {
  difference = Sub (a, b)
  y = evoconn.flushed (difference)
}

<domain: "evoconn", opset_import: ["" : 17, "evoconn" : 1], doc_string: "a * b + c, rounded from float64">
fma (a, b, c) => (y) {
  a64 = Cast <to = 11> (a)
  b64 = Cast <to = 11> (b)
  c64 = Cast <to = 11> (c)
  product = Mul (a64, b64)
  sum = Add (product, c64)
  rounded = Cast <to = 1> (sum)
  y = evoconn.flushed (rounded)
}

<domain: "evoconn", opset_import: ["" : 17, "evoconn" : 1], doc_string: "(observation - mean) / std">
normalized (observation, mean, std) => (x) {
  normal = evoconn.flushed (observation)
  centred = evoconn.minus (normal, mean)
  scaled = Div (centred, std)
  x = evoconn.flushed (scaled)
}

<domain: "evoconn", opset_import: ["" : 17], doc_string: "x @ x_weights + h @ h_weights + bias">
gate (x, x_weights, h, h_weights, bias) => (y) {
  of_x = MatMul (x, x_weights)
  of_h = MatMul (h, h_weights)
  sum = Add (of_x, of_h)
  y = Add (sum, bias)
}
"""

_BOOLEAN_INPUT = """
  input_weights = Cast <to = 1> (input)
  shape = Shape (v)
  nothing = ConstantOfShape (shape)
  input_sum = Scan (nothing, x, input_weights) <num_scan_inputs = 2, scan_input_axes = [1, 0],
    body = observation_by_observation (float[batch, $N] before, float[batch] value, float[$N] weights)
      => (float[batch, $N] after) {
      column = Unsqueeze (value, last_axis)
      term = Mul (column, weights)
      after = evoconn.plus (before, term)
    }>
"""
"""The sum is taken in the order of the observations, because that decides how it is rounded."""

_BOOLEAN_ARRIVED = """
      sent = Cast <to = 2> (spikes_before)
      counted = MatMulInteger (sent, recurrent)
      arrived = Cast <to = 1> (counted)
"""

_REAL_INPUT = """
  input_sum = MatMul (x, input)
"""

_REAL_ARRIVED = """
      sent = Cast <to = 1> (spikes_before)
      arrived = MatMul (sent, recurrent)
"""

_SUBSTEPS = """
  input_current = Mul (gain_input, input_sum)
  i_in = evoconn.flushed (input_current)
  next_v, next_i_syn, next_rate, next_spikes, spike_train = Loop (num_substeps, always, v, i_syn, rate, spikes) <
    body = substep (int64 index, bool go, float[batch, $N] v_before, float[batch, $N] i_syn_before,
      float[batch, $N] rate_before, bool[batch, $N] spikes_before)
      => (bool go_on, float[batch, $N] v_after, float[batch, $N] i_syn_after, float[batch, $N] rate_after,
      bool[batch, $N] spikes_after, bool[batch, $N] spiked) {
      go_on = Identity (go)
      $ARRIVED
      injected = Mul (gain_recurrent, arrived)
      i_syn_after = evoconn.fma (alpha_syn, i_syn_before, injected)
      synaptic = evoconn.plus (v_rest, i_syn_after)
      target = evoconn.plus (synaptic, i_in)
      distance = evoconn.minus (v_before, target)
      potential = evoconn.fma (alpha_m, distance, target)
      spikes_after = Greater (potential, v_threshold)
      v_after = Where (spikes_after, v_rest, potential)
      impulse = Where (spikes_after, impulse_of_spike, zero)
      rate_distance = evoconn.minus (rate_before, impulse)
      rate_after = evoconn.fma (alpha_out, rate_distance, impulse)
      spiked = Identity (spikes_after)
    }>
  output_weights = Cast <to = 1> (output)
  output_sum = MatMul (next_rate, output_weights)
  raw_action = Mul (gain_output, output_sum)
"""

_GRU = """
  r_sum = evoconn.gate (x, ir, h, hr, b_ir)
  r = Sigmoid (r_sum)
  z_sum = evoconn.gate (x, iz, h, hz, b_iz)
  z = Sigmoid (z_sum)
  n_of_h = MatMul (h, hn)
  n_of_h_biased = Add (n_of_h, b_hn)
  n_of_h_kept = Mul (r, n_of_h_biased)
  n_of_x = MatMul (x, in)
  n_of_x_biased = Add (n_of_x, b_in)
  n_sum = Add (n_of_x_biased, n_of_h_kept)
  n = Tanh (n_sum)
  one = Constant <value = float {1.0}> ()
  one_minus_z = Sub (one, z)
  new = Mul (one_minus_z, n)
  old = Mul (z, h)
  next_h = Add (new, old)
  of_next_h = MatMul (next_h, Dense_0)
  raw_action = Add (of_next_h, b_Dense_0)
"""

_LSTM = """
  i_sum = evoconn.gate (x, ii, h, hi, b_hi)
  i = Sigmoid (i_sum)
  f_sum = evoconn.gate (x, if, h, hf, b_hf)
  f = Sigmoid (f_sum)
  g_sum = evoconn.gate (x, ig, h, hg, b_hg)
  g = Tanh (g_sum)
  o_sum = evoconn.gate (x, io, h, ho, b_ho)
  o = Sigmoid (o_sum)
  old = Mul (f, c)
  new = Mul (i, g)
  next_c = Add (old, new)
  shown = Tanh (next_c)
  next_h = Mul (o, shown)
  of_next_h = MatMul (next_h, Dense_0)
  raw_action = Add (of_next_h, b_Dense_0)
"""

_MLP = """
  of_x = MatMul (x, Dense_0)
  of_x_biased = Add (of_x, b_Dense_0)
  hidden = Tanh (of_x_biased)
  of_hidden = MatMul (hidden, Dense_1)
  raw_action = Add (of_hidden, b_Dense_1)
"""

_BODIES = {
    "conn_snn": _BOOLEAN_INPUT + _SUBSTEPS.replace("$ARRIVED", _BOOLEAN_ARRIVED.strip()),
    "dense_snn": _REAL_INPUT + _SUBSTEPS.replace("$ARRIVED", _REAL_ARRIVED.strip()),
    "gru": _GRU,
    "lstm": _LSTM,
    "mlp": _MLP,
}
"""Operations of each network, from the normalised observation `x` and the carry to `raw_action`, as ONNX text."""


def write_onnx(source: ExportSource, out: Path) -> None:
    """Writes the policy as one environment step, which ONNX has checked.

    Args:
        source: Source with a built-in network.
        out: File to write.
    """
    connectome, episode = source.connectome, source.episode
    initial = episode.initial
    model = onnx.parser.parse_model(_text(connectome, initial))
    for name, values in _constants(connectome).items():
        array = np.float32(values) if isinstance(values, float) else values
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    model.producer_name, model.producer_version = "evoconn", __version__
    model.doc_string = (
        f"One environment step of a policy for {connectome.config.task.name}: {connectome.network.name}, generation "
        f"{connectome.generation}. Carry: {', '.join(initial) or 'none'}. An episode begins with initial_carry of the "
        "metadata; then the carry is next_NAME of the step before."
    )
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = _DOCS[value.name.removeprefix("next_")]
    metadata = {
        "task": connectome.config.task.name,
        "network": connectome.network.name,
        "generation": str(connectome.generation),
        "policy": connectome.policy,
        "step_seconds": f"{episode.dt_s:g}",
        "initial_carry": json.dumps({name: array.tolist() for name, array in initial.items()}),
        "equations": "\n".join(equations(connectome)),
        "provenance": json.dumps(source.provenance),
    }
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out)


def _text(connectome: Connectome, carry: Mapping[str, np.ndarray]) -> str:
    """Returns the model without its constants, as ONNX text."""
    neurons = connectome.num_neurons

    def signature(prefix: str) -> list[str]:
        types = {name: "bool" if array.dtype == bool else "float" for name, array in carry.items()}
        return [f"{types[name]}[batch, {neurons}] {prefix}{name}" for name in carry]

    inputs = [f"float[batch, {connectome.observation_size}] observation", *signature("")]
    outputs = [f"float[batch, {connectome.action_size}] action", *signature("next_")]
    if connectome.neurons is not None:
        outputs.append(f"bool[{connectome.constants.num_substeps}, batch, {neurons}] spike_train")
    body = Template(_BODIES[connectome.network.name]).substitute(N=neurons)
    return f"""<ir_version: 8, opset_import: ["" : 17, "evoconn" : 1]>
policy ({", ".join(inputs)}) => ({", ".join(outputs)}) {{
  x = evoconn.normalized (observation, observation_mean, observation_std)
  {body}
  action = Clip (raw_action, lowest_action, highest_action)
}}
{_FUNCTIONS}"""


def _constants(connectome: Connectome) -> dict[str, float | np.ndarray]:
    """Returns the constants of the model by their names in the text; floats are float32."""
    shared = {
        "observation_mean": connectome.obs_mean,
        "observation_std": connectome.obs_std,
        "lowest_action": -1.0,
        "highest_action": 1.0,
    }
    if connectome.neurons is not None:
        return shared | _spiking_constants(connectome)
    layers, biases = connectome.layers, connectome.biases
    weights = {name.split("/")[-2]: values for name, values in layers.items()}
    return shared | weights | {f"b_{name.split('/')[-2]}": values for name, values in biases.items()}


def _spiking_constants(connectome: Connectome) -> dict[str, float | np.ndarray]:
    constants, gains = connectome.constants, connectome.gains
    k_in, k_h, k_out, signs = spiking_weights(connectome)
    is_boolean = connectome.neuron_types is not None
    return {
        "input": k_in,
        "recurrent": k_h * signs[:, None],
        "output": k_out.astype(np.int8) if is_boolean else k_out,
        **({"last_axis": np.array([1])} if is_boolean else {}),
        "num_substeps": np.array(constants.num_substeps),
        "always": np.array(True),
        "zero": 0.0,
        "v_rest": constants.v_rest,
        "v_threshold": constants.v_threshold,
        "alpha_syn": constants.alpha_syn,
        "alpha_m": constants.alpha_m,
        "alpha_out": constants.alpha_out,
        "gain_input": gains.input,
        "gain_recurrent": gains.recurrent,
        "gain_output": gains.output,
        "impulse_of_spike": signs.astype(np.float32) / np.float32(constants.dt_ms),
    }
