"""The network as a graph in GraphML, which Gephi, Cytoscape, igraph and networkx open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from evoconn_cli.export.edges import edge_table
from evoconn_cli.export.equations import constants_document
from evoconn_cli.export.source import ExportSource
from evoconn_cli.export.units import Table, node_table


def write_graphml(source: ExportSource, out: Path) -> None:
    """Writes a directed graph whose nodes and edges have columns of the tables as attributes.

    `weight` of an edge is positive, since layouts and path lengths take it for a strength; the sign is in `sign`, and
    `signed_weight` is both. The graph has `constants` and `provenance` as JSON text. With an episode, its arrays are
    beside it, in `NAME-episode.npz`.

    Args:
        source: a boolean network.
        out: the file.
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
    """Returns the rows as dictionaries of plain Python values, whose types GraphML declares."""
    lists = [column.tolist() for column in table.values()]
    return [dict(zip(table, row, strict=True)) for row in zip(*lists, strict=True)]
