"""A boolean network and its recorded episode as tables, which csv and parquet share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.edges import EDGE_COLUMNS, edge_table
from evoconn_cli.export.episode import Episode
from evoconn_cli.export.source import ExportSource
from evoconn_cli.export.units import NODE_COLUMNS, STATE_COLUMNS, Table, node_table, unit_names


class DescribedTable(NamedTuple):
    """A table and what its columns hold."""

    table: Table
    columns: dict[str, str]


def tables_of(source: ExportSource) -> dict[str, DescribedTable]:
    """Returns the tables of a boolean network by name: `edges`, `nodes`, and those of its episode if asked for.

    With the constants and the connections, the episode can be computed again.
    """
    connectome, episode = source.connectome, source.episode
    tables = {
        "edges": DescribedTable(edge_table(connectome), EDGE_COLUMNS),
        "nodes": DescribedTable(node_table(connectome, episode), NODE_COLUMNS | STATE_COLUMNS),
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
    return DescribedTable(table | {"reward": episode.rewards}, columns | {"reward": "of the task, for the action"})


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
    return DescribedTable({"step": steps, "node": np.tile(neurons, num_steps), **arrays}, columns)


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
    return DescribedTable(table, columns)
