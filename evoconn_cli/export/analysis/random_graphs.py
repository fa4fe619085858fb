"""Random graphs in which every node has the degrees that it has in a given graph.

Source: Strona et al., Nature Communications 5, 2014 (Curveball: two nodes pool the targets that only one of them has,
and draw anew who has which); Carstens et al., ESA 2018 (all nodes trade at once, in random pairs). All graphs of these
degrees are equally likely, as far as trades reach them: a directed cycle of three nodes that have no other connection
is never turned round.
"""

from __future__ import annotations

import numpy as np

TRADES = 20
"""Rounds in which every node trades once. After ten of them, graphs of 64 to 256 nodes have no more connections in
common with the given one than after eighty, at densities of 0.05 to 0.9; in a few nodes a round changes little."""


def random_graph(graph: np.ndarray, rng: np.random.Generator, *, trades: int = TRADES) -> np.ndarray:
    """Returns `[pre, post]` bool, a random graph without self-connections with the same in- and out-degrees.

    Args:
        graph: `[pre, post]` bool without self-connections.
        rng: draws it.
        trades: rounds in which every node trades once.
    """
    drawn = graph.copy()
    for _ in range(trades):
        order = rng.permutation(len(graph))
        half = len(graph) // 2
        _trade(drawn, order[:half], order[half : 2 * half], rng)
    return drawn


def _trade(graph: np.ndarray, first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> None:
    """Lets the nodes `first[i]` and `second[i]` trade targets, in place; none may become its own target."""
    pairs = np.arange(len(first))
    pool = graph[first] ^ graph[second]
    pool[pairs, first] = pool[pairs, second] = False
    count = (pool & graph[first]).sum(axis=1)
    keys = np.where(pool, rng.random(pool.shape, dtype=np.float32), np.float32(2))
    order = np.argsort(keys, axis=1)
    taken = np.zeros_like(pool)
    np.put_along_axis(taken, order, np.arange(pool.shape[1]) < count[:, None], axis=1)
    graph[first] = np.where(pool, taken, graph[first])
    graph[second] = np.where(pool, ~taken, graph[second])
