"""Measures of a directed graph `[pre, post]` bool without self-connections."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components


def reciprocity(graph: np.ndarray) -> float:
    """Returns the share of connections whose reverse exists too; NaN without connections.

    In a random graph it is close to the density.

    Source: Garlaschelli and Loffredo, Physical Review Letters 93, 2004, `r`.
    """
    return _ratio(float((graph & graph.T).sum()), float(graph.sum()))


def clustering(graph: np.ndarray) -> float:
    """Returns the mean clustering coefficient over nodes: closed directed triangles among the possible ones.

    Nodes with fewer than two neighbours count as 0, as in networkx.

    Source: Fagiolo, Physical Review E 76, 2007, equation 8.
    """
    either = graph.astype(np.float32) + graph.T  # whole numbers, whose products are exact
    triangles = np.einsum("ij,ji->i", (either @ either).astype(np.float64), either) / 2
    degree = graph.sum(axis=0) + graph.sum(axis=1)
    both_ways = (graph & graph.T).sum(axis=0)
    possible = degree * (degree - 1) - 2 * both_ways
    return float(np.divide(triangles, possible, out=np.zeros(len(graph)), where=possible > 0).mean())


def distances(graph: np.ndarray) -> np.ndarray:
    """Returns `[pre, post]` int32, the fewest connections from one node to another; -1 where no path leads."""
    found = np.where(np.eye(len(graph), dtype=bool), 0, np.where(graph, 1, -1)).astype(np.int32)
    steps = graph.astype(np.float32)
    frontier, length = graph, 1
    while frontier.any() and (found < 0).any():
        length += 1
        frontier = (frontier.astype(np.float32) @ steps > 0) & (found < 0)
        found[frontier] = length
    return found


def path_length(graph: np.ndarray) -> float:
    """Returns the mean distance over ordered pairs of nodes that a path connects; NaN without any.

    Source: Watts and Strogatz, Nature 393, 1998, `L`.
    """
    found = distances(graph)
    connected = found > 0
    return _ratio(float(found[connected].sum()), float(connected.sum()))


def strong_components(graph: np.ndarray) -> np.ndarray:
    """Returns the sizes, largest first, of the sets of nodes that all reach each other."""
    _, labels = connected_components(csr_array(graph), directed=True, connection="strong")
    return np.sort(np.bincount(labels))[::-1]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
