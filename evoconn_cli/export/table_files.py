"""Writes the formats csv, npz, parquet and graphml."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import networkx as nx
import numpy as np

from evoconn_cli.export.connectome import Connectome, ExportSource
from evoconn_cli.export.edges import EDGE_COLUMNS, edge_table
from evoconn_cli.export.episode import Episode
from evoconn_cli.export.equations import CONSTANTS_FILE, constants_document
from evoconn_cli.export.text_files import write_json, write_table
from evoconn_cli.export.units import NODE_COLUMNS, STATE_COLUMNS, Table, node_table, unit_names

if TYPE_CHECKING:
    import pyarrow as pa


DescribedTable: TypeAlias = tuple[Table, dict[str, str]]
"""A table, and the descriptions of its columns."""


def tables_of(source: ExportSource) -> dict[str, DescribedTable]:
    """Returns the tables of a boolean network by name: `edges`, `nodes`, and those of its episode if requested.

    Together with the constants they suffice to compute the episode again.
    """
    connectome, episode = source.connectome, source.episode
    tables = {
        "edges": (edge_table(connectome), EDGE_COLUMNS),
        "nodes": (node_table(connectome, episode), NODE_COLUMNS | STATE_COLUMNS),
    }
    if not source.options.with_episode:
        return tables
    return tables | {
        "episode_steps": _steps(episode),
        "episode_neurons": _neurons(connectome, episode),
        "episode_spikes": _spikes(connectome, episode),
    }


def _steps(episode: Episode) -> DescribedTable:
    described = {
        "observation": "as the task gave it",
        "x": "(observation - mean) / std, what the network gets in all sub-steps",
        "raw_action": "as the network gave it, at the end of the step",
        "action": "clipped to [-1, 1], as the task took it",
    }
    arrays = episode.arrays()
    table: Table = {"step": np.arange(episode.num_steps, dtype=np.int32)}
    columns = {"step": "number of the environment step, from 0"}
    for name, description in described.items():
        for index, values in enumerate(arrays[name].T):
            table[f"{name}_{index}"], columns[f"{name}_{index}"] = values, description
    return table | {"reward": episode.rewards}, columns | {"reward": "of the task, for the action"}


def _neurons(connectome: Connectome, episode: Episode) -> DescribedTable:
    neurons, num_steps = unit_names(connectome)["neurons"], episode.num_steps
    arrays = {name: episode.arrays()[name].ravel() for name in ("i_in", "v", "i_syn", "rate")}
    columns = {
        "step": "number of the environment step, from 0",
        "node": "name of the neuron",
        "i_in": "input current, the same in all sub-steps of the step",
        "v": "membrane potential at the end of the step",
        "i_syn": "synaptic current at the end of the step",
        "rate": "read-out rate at the end of the step, with the sign of the neuron [1/ms]",
    }
    steps = np.repeat(np.arange(num_steps, dtype=np.int32), len(neurons))
    return {"step": steps, "node": np.tile(neurons, num_steps), **arrays}, columns


def _spikes(connectome: Connectome, episode: Episode) -> DescribedTable:
    neurons = np.array(unit_names(connectome)["neurons"])
    step, substep, neuron = np.nonzero(episode.spikes)
    num_substeps = episode.spikes.shape[1]
    columns = {
        "step": "number of the environment step, from 0",
        "substep": "number of the sub-step in it, from 0",
        "time": "end of the sub-step in the time of the network [ms]",
        "node": "name of the neuron",
    }
    table = {
        "step": step.astype(np.int32),
        "substep": substep.astype(np.int32),
        "time": (step * num_substeps + substep + 1) * connectome.constants.dt_ms,
        "node": neurons[neuron],
    }
    return table, columns


def write_csv(source: ExportSource, out: Path) -> None:
    """Writes a directory with a csv file per table, `columns.json`, which describes them, and `constants.json`.

    Args:
        source: Source with a boolean network.
        out: Directory to make.
    """
    out.mkdir()
    facts: dict[str, Any] = {}
    for name, (table, columns) in tables_of(source).items():
        write_table(out / f"{name}.csv", table)
        facts[f"{name}.csv"] = columns
    facts["provenance"] = source.provenance
    write_json(out / "columns.json", facts)
    write_json(out / CONSTANTS_FILE, constants_document(source.connectome))


def write_npz(source: ExportSource, out: Path) -> None:
    """Writes an npz file, which is read without pickle.

    A boolean network of typed neurons has its tables, as `edges/COLUMN` and `nodes/COLUMN`; other networks have
    `kernels/NAME` `[pre, post]`, `biases/NAME` `[post]`, `normalizer/mean` and `normalizer/std`. Boolean connections
    have `probs/NAME` `[pre, post]`, the probabilities of all possible ones. Spiking networks have `gains/LAYER`. With
    an episode there are `episode/NAME`, and for real weights `initial/NAME`. `constants` and `provenance` are JSON
    text.

    Args:
        source: Source with any network.
        out: File to write.
    """
    np.savez_compressed(out, **npz_arrays(source, with_episode=source.options.with_episode))


def npz_arrays(source: ExportSource, *, with_episode: bool) -> dict[str, Any]:
    """Returns the arrays of the file by name."""
    connectome = source.connectome
    if connectome.neuron_types is None:
        arrays: dict[str, Any] = _weights(source, with_episode)
    else:
        tables = {"edges": edge_table(connectome), "nodes": node_table(connectome, source.episode)}
        arrays = {f"{name}/{column}": values for name, table in tables.items() for column, values in table.items()}
    arrays |= {f"probs/{name}": probs for name, probs in connectome.probs.items()}
    if connectome.neurons is not None:
        arrays |= {f"gains/{name}": np.array(gain) for name, gain in connectome.gains._asdict().items()}
    if with_episode:
        arrays |= {f"episode/{name}": values for name, values in source.episode.arrays().items()}
    arrays["constants"] = np.array(json.dumps(constants_document(connectome), ensure_ascii=False))
    arrays["provenance"] = np.array(json.dumps(source.provenance))
    return arrays


def _weights(source: ExportSource, with_episode: bool) -> dict[str, np.ndarray]:
    """Returns the weights and the initial state of the episode; without an episode, only spiking neurons have one."""
    connectome = source.connectome
    arrays = {"normalizer/mean": connectome.obs_mean, "normalizer/std": connectome.obs_std}
    arrays |= {f"kernels/{name}": layer for name, layer in connectome.layers.items()}
    arrays |= {f"biases/{name}": bias for name, bias in connectome.biases.items()}
    if connectome.neurons is not None or with_episode:
        arrays |= {f"initial/{name}": values for name, values in source.episode.initial.items()}
    return arrays


def write_parquet(source: ExportSource, out: Path) -> None:
    """Writes a directory with a file per table, such as `edges.parquet`, and `constants.json`.

    Text columns are dictionary-encoded. The metadata of every field hold its `description`, and those of the schema
    `provenance` as JSON.

    Args:
        source: Source with a boolean network.
        out: Directory to make.
    """
    from pyarrow import parquet

    out.mkdir()
    for name, (table, columns) in tables_of(source).items():
        parquet.write_table(_arrow(table, columns, source.provenance), out / f"{name}.parquet")
    write_json(out / CONSTANTS_FILE, constants_document(source.connectome))


def _arrow(table: Table, descriptions: Mapping[str, str], provenance: Mapping[str, Any]) -> pa.Table:
    import pyarrow as pa

    fields, arrays = [], []
    for name, values in table.items():
        array = pa.array(values)
        array = array.dictionary_encode() if values.dtype.kind == "U" else array
        fields.append(pa.field(name, array.type, metadata={"description": descriptions[name]}))
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, {"provenance": json.dumps(provenance)}))


def write_graphml(source: ExportSource, out: Path) -> None:
    """Writes a directed graph whose nodes and edges have the columns of the tables as attributes.

    `weight` of an edge is positive, because layouts and path lengths use it as a strength; `sign` has the sign, and
    `signed_weight` is the product. The graph has `constants` and `provenance` as JSON text. The arrays of an episode
    are written beside it, to `NAME-episode.npz`.

    Args:
        source: Source with a boolean network.
        out: File to write.
    """
    constants = json.dumps(constants_document(source.connectome), ensure_ascii=False)
    graph = nx.DiGraph(provenance=json.dumps(source.provenance), constants=constants)
    nodes, table = node_table(source.connectome, source.episode), edge_table(source.connectome)
    edges = {column: table[column] for column in ("pre", "post", "layer", "sign", "probability")}
    edges |= {"weight": abs(table["weight"]), "signed_weight": table["weight"]}
    graph.add_nodes_from((row.pop("node"), row) for row in _rows(nodes | {"label": nodes["node"]}))
    graph.add_edges_from((row.pop("pre"), row.pop("post"), row) for row in _rows(edges))
    nx.write_graphml(graph, out)
    if source.options.with_episode:
        arrays: dict[str, Any] = dict(source.episode.arrays())
        np.savez_compressed(out.with_name(f"{out.stem}-episode.npz"), **arrays)


def _rows(table: Table) -> list[dict]:
    """Returns the rows as dictionaries of Python values, whose types GraphML declares."""
    lists = [column.tolist() for column in table.values()]
    return [dict(zip(table, row, strict=True)) for row in zip(*lists, strict=True)]
