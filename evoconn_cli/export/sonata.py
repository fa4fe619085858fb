"""Writes the format sonata: a circuit, its simulation, spikes and reports.

SONATA has no model of these neurons, so their template is named `evoconn:lif` and the directory describes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evoconn_cli.export.connectome import Connectome, ExportSource
from evoconn_cli.export.edges import edge_table
from evoconn_cli.export.episode import Episode
from evoconn_cli.export.sonata_files import add_edge_ends, add_population, sonata_file, write_report, write_spikes
from evoconn_cli.export.text_files import write_json
from evoconn_cli.export.units import LAYER_POPULATIONS, POPULATIONS, Table, neuron_signs, node_table

NODE_TYPES = (
    ("node_type_id", "population", "model_type", "model_template", "dynamics_params", "pop_name"),
    (0, "inputs", "virtual", "NULL", "NULL", "observation"),
    (1, "neurons", "point_neuron", "evoconn:lif", "lif.json", "excitatory"),
    (2, "neurons", "point_neuron", "evoconn:lif", "lif.json", "inhibitory"),
    (3, "actions", "point_neuron", "evoconn:leaky_integrator", "readout.json", "action"),
)
EDGE_TYPES = (
    ("edge_type_id", "population", "model_template", "pre_type"),
    (0, "input", "NULL", "observation"),
    (1, "recurrent", "NULL", "excitatory"),
    (2, "recurrent", "NULL", "inhibitory"),
    (3, "output", "NULL", "excitatory"),
    (4, "output", "NULL", "inhibitory"),
)
REPORTS = {
    "input_x": ("inputs", "x", "1", 0),
    "input_current": ("neurons", "i_in", "1", 0),
    "action": ("actions", "action", "1", 1),
}
"""Per report, which has one frame per environment step: population, variable, unit, and step of the first frame."""

MODEL = (
    "Inputs send no spikes, but the values in output/input_x.h5, each for all sub-steps of an environment step.",
    "In each sub-step of dt, for all neurons at once, with a spike being 1:",
    "i_in = sum over inputs of syn_weight * x (output/input_current.h5)",
    "i_syn = exp(-dt/tau_syn) * i_syn + sum of syn_weight over recurrent edges whose source spiked a sub-step ago",
    "v = t + exp(-dt/tau_m) * (v - t) with t = v_rest + i_syn + i_in",
    "a neuron spikes where v > v_threshold, strictly; there v = v_rest. Its time is the end of the sub-step.",
    "rate = s/dt + exp(-dt/tau_out) * (rate - s/dt), with s = 1 where it spiked, else 0",
    "action = sum over output edges of syn_weight * rate at the end of an environment step (output/action.h5; the task "
    "takes it clipped to [-1, 1]).",
    "The time of a frame in a report is when its value begins to hold: x and i_in from the start of their environment "
    "step, an action from the end of the step that gave it. So frame k of every report is of environment step k.",
)


def write_sonata(source: ExportSource, out: Path) -> None:
    """Writes a directory with `circuit_config.json`, `simulation_config.json` and the files that they name.

    Args:
        source: Source with a boolean network.
        out: Directory to make.
    """
    for folder in (out / "network", out / "components", out / "output"):
        folder.mkdir(parents=True)
    connectome, episode = source.connectome, source.episode
    nodes, edges = node_table(connectome), edge_table(connectome)
    for population in POPULATIONS:
        initial_state = _initial_state(connectome, episode) if population == "neurons" else {}
        _write_nodes(out / "network", population, nodes, initial_state)
    for layer in LAYER_POPULATIONS:
        _write_edges(out / "network", layer, edges, connectome)
    (out / "network" / "node_types.csv").write_text(_csv(NODE_TYPES))
    (out / "network" / "edge_types.csv").write_text(_csv(EDGE_TYPES))
    _write_output(out / "output", connectome, episode)
    documents = {
        "components/lif.json": _parameters(
            connectome, "tau_m_ms", "tau_syn_ms", "tau_out_ms", "dt_ms", "v_rest", "v_threshold"
        ),
        "components/readout.json": _parameters(connectome, "tau_out_ms", "dt_ms"),
        "circuit_config.json": _circuit(source),
        "simulation_config.json": _simulation(connectome, episode),
        "node_sets.json": {population: {"population": population} for population in POPULATIONS},
    }
    for name, document in documents.items():
        write_json(out / name, document, ascii_only=True)


def _write_nodes(folder: Path, population: str, table: Table, initial_state: Table) -> None:
    here = table["population"] == population
    nodes = {column: values[here] for column, values in table.items()}
    own = {"inputs": ("observation", "factor", "mean", "std"), "neurons": ("type", "sign"), "actions": ()}[population]
    attributes = {"name": nodes["node"]} | {column: nodes[column] for column in own}
    with sonata_file(folder / f"{population}_nodes.h5") as file:
        type_ids = _type_ids(NODE_TYPES, population, nodes["type"])
        group = add_population(file, f"nodes/{population}", kind="node", type_ids=type_ids, attributes=attributes)
        for parameter, values in initial_state.items():
            group.create_dataset(f"0/dynamics_params/{parameter}", data=values)
        group.create_dataset("node_id", data=np.arange(len(type_ids)), dtype=np.uint64)


def _initial_state(connectome: Connectome, episode: Episode) -> Table:
    """Returns the initial state of the neurons in the recorded episode, rates without a sign as in `MODEL`."""
    initial = episode.initial
    return {
        "v_init": initial["v"],
        "i_syn_init": initial["i_syn"],
        "rate_init": initial["rate"] * neuron_signs(connectome),
        "spiked_init": initial["spikes"].astype(np.int8),
    }


def _write_edges(folder: Path, layer: str, table: Table, connectome: Connectome) -> None:
    """Writes a layer with the indices of both directions."""
    here = table["layer"] == layer
    edges = {column: values[here] for column, values in table.items()}
    delay_ms = connectome.constants.dt_ms if layer == "recurrent" else 0.0
    attributes = {
        "syn_weight": edges["weight"].astype(np.float32),
        "delay": np.full(len(edges["weight"]), delay_ms, np.float32),
        "probability": edges["probability"],
    }
    with sonata_file(folder / f"{layer}_edges.h5") as file:
        type_ids = _type_ids(EDGE_TYPES, layer, edges["pre_type"])
        group = add_population(file, f"edges/{layer}", kind="edge", type_ids=type_ids, attributes=attributes)
        (sending, receiving), (num_sending, num_receiving) = LAYER_POPULATIONS[layer], connectome.layers[layer].shape
        add_edge_ends(group, "source", sending, ids=edges["pre_index"], num_nodes=num_sending)
        add_edge_ends(group, "target", receiving, ids=edges["post_index"], num_nodes=num_receiving)


def _type_ids(types: Sequence[Sequence[Any]], population: str, names: np.ndarray) -> np.ndarray:
    """Returns the ids of names in the last column of a table of types."""
    ids = {row[-1]: row[0] for row in types[1:] if row[1] == population}
    return np.array([ids[name] for name in names.tolist()], np.int64)


def _write_output(folder: Path, connectome: Connectome, episode: Episode) -> None:
    num_steps, num_substeps, num_neurons = episode.spikes.shape
    dt_ms = connectome.constants.dt_ms
    substep, neuron = np.nonzero(episode.spikes.reshape(num_steps * num_substeps, num_neurons))
    write_spikes(folder / "spikes.h5", "neurons", (substep + 1) * dt_ms, neuron)
    x = episode.normalized
    values = {
        "input_x": np.concatenate([x, -x], axis=1),
        "input_current": episode.input_currents,
        "action": episode.raw_actions,
    }
    step_ms = num_substeps * dt_ms
    for name, (population, _, unit, start) in REPORTS.items():
        path = folder / f"{name}.h5"
        write_report(path, population, values[name], units=unit, step_ms=step_ms, start_ms=start * step_ms)


def _circuit(source: ExportSource) -> dict[str, Any]:
    nodes = [
        {
            "nodes_file": f"$NETWORK_DIR/{population}_nodes.h5",
            "node_types_file": "$NETWORK_DIR/node_types.csv",
            "populations": {population: {"type": "virtual" if population == "inputs" else "point_neuron"}},
        }
        for population in POPULATIONS
    ]
    edges = [
        {
            "edges_file": f"$NETWORK_DIR/{layer}_edges.h5",
            "edge_types_file": "$NETWORK_DIR/edge_types.csv",
            "populations": {layer: {"type": "point_neuron"}},
        }
        for layer in LAYER_POPULATIONS
    ]
    return {
        "manifest": {"$BASE_DIR": ".", "$NETWORK_DIR": "$BASE_DIR/network", "$COMPONENT_DIR": "$BASE_DIR/components"},
        "components": {"point_neuron_models_dir": "$COMPONENT_DIR"},
        "networks": {"nodes": nodes, "edges": edges},
        "metadata": {"model": list(MODEL), "provenance": dict(source.provenance)},
    }


def _simulation(connectome: Connectome, episode: Episode) -> dict[str, Any]:
    dt_ms = connectome.constants.dt_ms
    num_steps, num_substeps, _ = episode.spikes.shape
    step_ms = num_substeps * dt_ms
    return {
        "manifest": {"$BASE_DIR": ".", "$OUTPUT_DIR": "$BASE_DIR/output"},
        "network": "$BASE_DIR/circuit_config.json",
        "node_sets_file": "$BASE_DIR/node_sets.json",
        "node_set": "neurons",
        "run": {"tstop": num_steps * step_ms, "dt": dt_ms, "random_seed": episode.seed},
        "output": {"output_dir": "$OUTPUT_DIR", "spikes_file": "spikes.h5"},
        "reports": {
            name: {
                "cells": population,
                "type": "compartment",
                "sections": "soma",
                "variable_name": variable,
                "unit": unit,
                "dt": step_ms,
                "start_time": start * step_ms,
                "end_time": (start + num_steps) * step_ms,
                "file_name": f"{name}.h5",
            }
            for name, (population, variable, unit, start) in REPORTS.items()
        },
    }


def _parameters(connectome: Connectome, *names: str) -> dict[str, float]:
    """Returns constants of the neurons, times [ms] without their suffix."""
    return {name.removesuffix("_ms"): getattr(connectome.constants, name) for name in names}


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    return "".join(" ".join(str(value) for value in row) + "\n" for row in rows)
