"""Writes the HDF5 files of the SONATA format: nodes, edges, spikes and reports.

Nothing is compressed, because libsonata is built without the filters.

Source: SONATA developer guide, version 0.1, including the types of numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

_MAGIC, _VERSION = 0x0A7A, (0, 1)
_SORTING = {"none": 0, "by_id": 1, "by_time": 2}


def add_edge_ends(group: h5py.Group, side: str, population: str, *, ids: np.ndarray, num_nodes: int) -> None:
    """Adds the nodes at one end of edges, and the index from them to these edges.

    Args:
        group: Population of edges.
        side: `source` or `target`.
        population: Population of the nodes.
        ids: `[n]` node of each edge.
        num_nodes: Number of nodes in their population.
    """
    group.create_dataset(f"{side}_node_id", data=ids, dtype=np.uint64).attrs["node_population"] = population
    nodes, ranges = edge_index(ids, num_nodes)
    index = {"source": "source_to_target", "target": "target_to_source"}[side]
    data = group.create_dataset(f"indices/{index}/node_id_to_ranges", data=nodes)
    group[f"indices/{index}/node_id_to_range"] = data  # libsonata looks for the plural, BMTK for the singular
    group.create_dataset(f"indices/{index}/range_to_edge_id", data=ranges)


def edge_index(ids: np.ndarray, num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the index from nodes to edges.

    Args:
        ids: `[n]` node at one end of each edge.
        num_nodes: Number of nodes in the population.

    Returns:
        `[num_nodes, 2]` int64, the range of rows of the second result that belong to a node, and `[rows, 2]` int64,
        ranges of edges. Ends are exclusive.
    """
    order = np.argsort(ids, kind="stable")
    nodes = ids[order]
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(order) != 1) | (np.diff(nodes) != 0)
    starts = np.flatnonzero(first)
    lengths = np.diff(np.append(starts, len(order)))
    ranges = np.stack([order[starts], order[starts] + lengths], axis=1)
    bounds = np.searchsorted(nodes[starts], np.arange(num_nodes + 1))
    return np.stack([bounds[:-1], bounds[1:]], axis=1).astype(np.int64), ranges.astype(np.int64)


def write_spikes(path: Path, population: str, times_ms: np.ndarray, node_ids: np.ndarray) -> None:
    """Writes spikes.

    Args:
        path: File to write.
        population: Population of the nodes.
        times_ms: `[n]` ascending times [ms].
        node_ids: `[n]` node of each spike.
    """
    with sonata_file(path) as file:
        group = file.create_group(f"spikes/{population}")
        group.attrs.create("sorting", _SORTING["by_time"], dtype=h5py.enum_dtype(_SORTING, basetype="i"))
        group.create_dataset("timestamps", data=times_ms, dtype=np.float64).attrs["units"] = "ms"
        group.create_dataset("node_ids", data=node_ids, dtype=np.uint64)


def write_report(
    path: Path, population: str, values: np.ndarray, *, units: str, step_ms: float, start_ms: float
) -> None:
    """Writes one value per node and frame.

    Args:
        path: File to write.
        population: Population of the nodes.
        values: `[frames, nodes]` values.
        units: Unit of the values.
        step_ms: Time between two frames [ms].
        start_ms: Time of the first frame [ms].
    """
    frames, nodes = values.shape
    with sonata_file(path) as file:
        group = file.create_group(f"report/{population}")
        data = group.create_dataset("data", data=values, dtype=np.float32)
        data.attrs["units"] = units
        ids = group.create_dataset("mapping/node_ids", data=np.arange(nodes), dtype=np.uint64)
        ids.attrs["sorted"] = np.int8(1)
        pointers = group.create_dataset("mapping/index_pointers", data=np.arange(nodes + 1), dtype=np.uint64)
        group["mapping/index_pointer"] = pointers  # as above
        group.create_dataset("mapping/element_ids", data=np.zeros(nodes), dtype=np.uint32)
        time = group.create_dataset("mapping/time", data=np.array([start_ms, start_ms + frames * step_ms, step_ms]))
        time.attrs["units"] = "ms"


@contextlib.contextmanager
def sonata_file(path: Path) -> Iterator[h5py.File]:
    """Provides a new file of the format, which is closed at the end."""
    with h5py.File(path, "w") as file:
        file.attrs["magic"] = np.uint32(_MAGIC)
        file.attrs["version"] = np.array(_VERSION, np.uint32)
        yield file


def add_population(
    file: h5py.File, name: str, *, kind: str, type_ids: np.ndarray, attributes: Mapping[str, np.ndarray]
) -> h5py.Group:
    """Returns a new population with one group, `0`, which has the attributes.

    Args:
        file: File of nodes or edges.
        name: Path of the population in it.
        kind: `node` or `edge`.
        type_ids: `[n]` type of each node or edge.
        attributes: `[n]` values by name; text is stored as an enumeration.
    """
    population = file.create_group(name)
    population.create_dataset(f"{kind}_type_id", data=type_ids, dtype=np.int64)
    population.create_dataset(f"{kind}_group_id", data=np.zeros(len(type_ids)), dtype=np.uint32)
    population.create_dataset(f"{kind}_group_index", data=np.arange(len(type_ids)), dtype=np.uint64)
    group = population.create_group("0")
    for attribute, values in attributes.items():
        if values.dtype.kind == "U":
            library, values = np.unique(values, return_inverse=True)
            group.create_dataset(f"@library/{attribute}", data=library.tolist(), dtype=h5py.string_dtype())
            values = values.astype(np.uint32)
        group.create_dataset(attribute, data=values)
    return population
