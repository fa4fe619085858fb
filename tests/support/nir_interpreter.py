"""NIR graphs, run from the equations of their nodes alone: it knows nothing of the networks that it is given."""

from __future__ import annotations

import graphlib
from collections.abc import Mapping

import nir
import numpy as np


def run_graph(graph: nir.NIRGraph, inputs: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns what every node gives, and its potential after that, `[steps, size]` float64.

    Args:
        graph: of Affine, LI and LIF nodes between one input and one output; its metadata have `dt`, `tau` and
            `delayed_edge`, those of its nodes `initial_v` and `initial_spikes`, else these are 0.
        inputs: `[steps, size]` values of the input node.
    """
    delayed = tuple(graph.metadata["delayed_edge"].split(" -> "))
    assert delayed in graph.edges
    senders = {name: [pre for pre, post in graph.edges if post == name] for name in graph.nodes}
    now = {name: [pre for pre in pres if (pre, name) != delayed] for name, pres in senders.items()}
    order = list(graphlib.TopologicalSorter(now).static_order())
    sizes = {name: int(node.output_type["output"][0]) for name, node in graph.nodes.items()}
    v = {name: _initial(graph.nodes[name], "initial_v", size) for name, size in sizes.items()}
    given = {name: _initial(graph.nodes[name], "initial_spikes", size) for name, size in sizes.items()}
    record: dict[str, list[np.ndarray]] = {name: [] for name in graph.nodes}
    potentials: dict[str, list[np.ndarray]] = {name: [] for name in graph.nodes}
    for x in inputs.astype(np.float64):
        before = dict(given)
        for name in order:
            values = [before[pre] if (pre, name) == delayed else given[pre] for pre in senders[name]]
            total = sum(values, np.zeros(())) if values else x
            given[name], v[name] = _step(graph.nodes[name], total, v[name], graph.metadata)
            record[name].append(given[name])
            potentials[name].append(v[name])
    return _stacked(record), _stacked(potentials)


def _initial(node: nir.NIRNode, key: str, size: int) -> np.ndarray:
    return np.array(node.metadata.get(key, np.zeros(size)), np.float64)


def _stacked(series: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.array(values) for name, values in series.items()}


def _step(node: nir.NIRNode, i: np.ndarray, v: np.ndarray, metadata: Mapping) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a node gives, and its potential after that."""
    if isinstance(node, (nir.Input, nir.Output)):
        return i, v
    if isinstance(node, nir.Affine):
        return node.weight.astype(np.float64) @ i + node.bias, v
    assert isinstance(node, (nir.LI, nir.LIF))
    ratio = float(metadata["dt"]) / node.tau.astype(np.float64)
    target = node.v_leak + node.r * i
    v = target + np.exp(-ratio) * (v - target) if metadata["tau"] == "continuous" else v + ratio * (target - v)
    if isinstance(node, nir.LI):
        return v, v
    spikes = v > node.v_threshold
    return spikes.astype(np.float64), np.where(spikes, node.v_reset, v)
