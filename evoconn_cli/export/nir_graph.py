"""Writes the format nir: the network in the Neuromorphic Intermediate Representation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import nir
import numpy as np

from evoconn_cli.config.formats import NirTau
from evoconn_cli.export.connectome import Connectome, ExportSource
from evoconn_cli.export.episode import Episode
from evoconn_cli.export.units import spiking_weights

EDGES = (
    ("input", "input_weights"),
    ("input_weights", "neurons"),
    ("neurons", "output_weights"),
    ("output_weights", "readout"),
    ("readout", "output"),
    ("neurons", "recurrent_weights"),
    ("recurrent_weights", "synapses"),
    ("synapses", "neurons"),
)
"""The path from input to output comes first, because some readers only follow the first edge of each node."""

DELAYED_EDGE = "neurons -> recurrent_weights"
"""The only edge whose values arrive one sub-step later; along all others they arrive in the same sub-step."""


def write_recording(episode: Episode, dt_s: float, out: Path) -> None:
    """Writes an episode as one sample of `nir.NIRGraphData`.

    On the grid of sub-steps: the input `input/x` and `neurons/spikes`. On the grid of environment steps, at the end of
    each: `neurons/v`, `synapses/v` and the unclipped `output/action`.

    Args:
        episode: Episode of the network.
        dt_s: Length of a sub-step [s].
        out: File to write.
    """
    _, num_substeps, neurons = episode.spikes.shape
    x = np.repeat(episode.normalized, num_substeps, axis=0)

    def gridded(values: np.ndarray, dt: float) -> nir.TimeGriddedData:
        return nir.TimeGriddedData(values[None], dt)

    step_s = num_substeps * dt_s
    observables: dict[str, dict[str, nir.TimeGriddedData | nir.EventData]] = {
        "input": {"x": gridded(x, dt_s)},
        "neurons": {
            "spikes": gridded(episode.spikes.reshape(-1, neurons), dt_s),
            "v": gridded(episode.states["v"], step_s),
        },
        "synapses": {"v": gridded(episode.states["i_syn"], step_s)},
        "output": {"action": gridded(episode.raw_actions, step_s)},
    }
    nir.write_data(str(out), nir.NIRGraphData({name: nir.NIRNodeData(of) for name, of in observables.items()}))


def write_nir(source: ExportSource, out: Path) -> None:
    """Writes the graph `NAME.nir`, and beside it the recorded episode `NAME-recording.h5`.

    Args:
        source: Source with a spiking network.
        out: File of the graph.
    """
    graph = nir_graph(source.connectome, source.options.nir_tau)
    graph.metadata["provenance"] = json.dumps(source.provenance)
    for node, state in _initial_state(source.connectome, source.episode.initial).items():
        graph.nodes[node].metadata |= state
    nir.write(out, graph)
    write_recording(source.episode, source.connectome.constants.dt_ms / 1000, out.with_name(f"{out.stem}-recording.h5"))


def nir_graph(connectome: Connectome, tau: NirTau) -> nir.NIRGraph:
    """Returns the graph of a spiking network, with times in seconds.

    Args:
        connectome: Connectome of a spiking network.
        tau: `continuous`, or `euler` for readers that integrate by forward Euler with the step `dt` of the metadata.
    """
    constants, gains, neurons = connectome.constants, connectome.gains, connectome.num_neurons
    dt_ms = constants.dt_ms
    k_in, k_h, k_out, signs = (weights.astype(np.float64) for weights in spiking_weights(connectome))

    def seconds(tau_ms: float) -> float:
        """Returns a time constant, for `euler` that with which a forward Euler step has the exact decay."""
        return (tau_ms if tau == "continuous" else dt_ms / (1 - math.exp(-dt_ms / tau_ms))) / 1000

    # A spike is 1 for one sub-step, and what inhibitory neurons send is negative.
    return nir.NIRGraph(
        nodes={
            "input": nir.Input({"input": np.array([connectome.observation_size])}),
            "input_weights": _affine(gains.input * k_in),
            "neurons": nir.LIF(
                tau=_filled(neurons, seconds(constants.tau_m_ms)),
                r=_filled(neurons, 1.0),
                v_leak=_filled(neurons, constants.v_rest),
                v_threshold=_filled(neurons, constants.v_threshold),
                v_reset=_filled(neurons, constants.v_rest),
            ),
            "recurrent_weights": _affine(gains.recurrent / (1 - constants.alpha_syn) * k_h * signs[:, None]),
            "synapses": _integrator(neurons, seconds(constants.tau_syn_ms)),
            "output_weights": _affine(gains.output / dt_ms * k_out * signs[:, None]),
            "readout": _integrator(connectome.action_size, seconds(constants.tau_out_ms)),
            "output": nir.Output({"output": np.array([connectome.action_size])}),
        },
        edges=list(EDGES),
        metadata=_metadata(connectome, tau),
    )


def _affine(weights: np.ndarray) -> nir.Affine:
    """Returns a layer with weights `[pre, post]`."""
    return nir.Affine(weight=weights.T.astype(np.float32), bias=np.zeros(weights.shape[1], np.float32))


def _initial_state(connectome: Connectome, initial: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Returns the initial state of the recorded episode by node; without warm-up, all but the potentials are 0."""
    _, _, layer, _ = spiking_weights(connectome)
    return {
        "neurons": {"initial_v": initial["v"], "initial_spikes": initial["spikes"]},
        "synapses": {"initial_v": initial["i_syn"]},
        "readout": {"initial_v": (connectome.gains.output * (layer.T @ initial["rate"])).astype(np.float32)},
    }


def _integrator(size: int, tau_s: float) -> nir.LI:
    return nir.LI(tau=_filled(size, tau_s), r=_filled(size, 1.0), v_leak=_filled(size, 0.0))


def _filled(size: int, value: float) -> np.ndarray:
    return np.full(size, value, np.float32)


def _metadata(connectome: Connectome, tau: NirTau) -> dict[str, Any]:
    constants = connectome.constants
    exactly = "the exact solution over dt with the input held, v' = a v + (1 - a)(v_leak + i) with a = exp(-dt/tau)"
    return {
        "network": connectome.network.name,
        "task": connectome.config.task.name,
        "dt": constants.dt_ms / 1000,
        "substeps": constants.num_substeps,
        "unit_of_time": "s",
        "unit_of_potential": "1, of which the threshold is a multiple",
        "tau": tau,
        "discretization": exactly if tau == "continuous" else "forward Euler with dt, v' = v + dt/tau (v_leak - v + i)",
        "delayed_edge": DELAYED_EDGE,
        "order": "in each sub-step: synapses, neurons, readout",
        "threshold": "strict: a neuron spikes where v > v_threshold, and its v is v_reset then",
        "spike": "1 for the sub-step, not 1/dt",
        "initial_state": "of the recorded episode: initial_v, and initial_spikes a sub-step before, in nodes' metadata",
        "input": "(observation - mean) / std, held for all sub-steps of an environment step",
        "output": "the action is the output after the last sub-step, clipped to [-1, 1]",
        "observation_mean": connectome.obs_mean,
        "observation_std": connectome.obs_std,
        "output_clip": np.array([-1.0, 1.0], np.float32),
    }
