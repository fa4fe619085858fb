"""Graph measures against small graphs by hand, networkx, and enumeration."""

from __future__ import annotations

import itertools
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from scipy.stats import chisquare

from evoconn_cli.export.analysis.graphs import (
    clustering,
    distances,
    find_communities,
    modularity,
    path_length,
    random_graph,
    reciprocity,
    strong_components,
)
from evoconn_cli.export.analysis.statistics import degree_entropy, degree_statistics


def graph_of(num_nodes: int, *edges: tuple[int, int]) -> np.ndarray:
    graph = np.zeros((num_nodes, num_nodes), bool)
    graph[tuple(np.transpose(edges))] = True
    return graph


def drawn(num_nodes: int, density: float, seed: int = 0) -> np.ndarray:
    graph = np.random.default_rng(seed).random((num_nodes, num_nodes)) < density
    return graph & ~np.eye(num_nodes, dtype=bool)


def as_networkx(graph: np.ndarray) -> nx.DiGraph:
    return nx.from_numpy_array(graph, create_using=nx.DiGraph)


CHAIN_AND_BACK = graph_of(4, (0, 1), (1, 0), (1, 2), (2, 3))
CASES = [drawn(n, d, seed) for seed, (n, d) in enumerate(itertools.product((2, 9, 30), (0.05, 0.2, 0.5, 0.9)))]


def test_a_graph_by_hand():
    assert reciprocity(CHAIN_AND_BACK) == 0.5
    np.testing.assert_array_equal(
        distances(CHAIN_AND_BACK), [[0, 1, 2, 3], [1, 0, 1, 2], [-1, -1, 0, 1], [-1, -1, -1, 0]]
    )
    assert path_length(CHAIN_AND_BACK) == pytest.approx((1 + 2 + 3 + 1 + 1 + 2 + 1) / 7)
    assert strong_components(CHAIN_AND_BACK).tolist() == [2, 1, 1]
    assert clustering(CHAIN_AND_BACK) == 0
    assert clustering(graph_of(3, (0, 1), (1, 2), (2, 0))) == 0.5  # one of the two ways round a triangle


@pytest.mark.parametrize("graph", CASES, ids=lambda g: f"{len(g)}-{g.sum()}")
def test_as_networkx_has_them(graph):
    other = as_networkx(graph)
    assert clustering(graph) == pytest.approx(nx.average_clustering(other))
    lengths = {a: found for a, found in nx.all_pairs_shortest_path_length(other)}
    expected = [[lengths[a].get(b, -1) for b in range(len(graph))] for a in range(len(graph))]
    np.testing.assert_array_equal(distances(graph), expected)
    assert sorted(map(len, nx.strongly_connected_components(other)), reverse=True) == strong_components(graph).tolist()
    if graph.any():
        assert reciprocity(graph) == pytest.approx(nx.overall_reciprocity(other))
        labels = find_communities(graph, np.random.default_rng(0))
        groups = [set(np.flatnonzero(labels == label).tolist()) for label in range(labels.max() + 1)]
        assert modularity(graph, labels) == pytest.approx(nx.community.modularity(other, groups))


def test_a_graph_without_connections():
    graph = np.zeros((3, 3), bool)
    assert np.isnan(reciprocity(graph)) and np.isnan(path_length(graph))
    assert clustering(graph) == 0
    assert strong_components(graph).tolist() == [1, 1, 1]
    assert modularity(graph, find_communities(graph, np.random.default_rng(0))) == 0


def test_communities_that_are_there_are_found():
    rng = np.random.default_rng(1)
    groups = rng.permutation(np.repeat([0, 1, 2], [20, 15, 10]))
    graph = rng.random((45, 45)) < np.where(groups[:, None] == groups, 0.8, 0.2)
    np.fill_diagonal(graph, False)
    np.testing.assert_array_equal(find_communities(graph, rng), groups)


@pytest.mark.parametrize("density", [0.1, 0.5])
def test_communities_are_as_good_as_those_of_networkx(density):
    graph = drawn(60, density)
    ours = modularity(graph, find_communities(graph, np.random.default_rng(0)))
    other = as_networkx(graph)
    theirs = nx.community.modularity(other, nx.community.louvain_communities(other, seed=0))
    assert ours > 0.9 * theirs > 0


@pytest.mark.parametrize("graph", CASES, ids=lambda g: f"{len(g)}-{g.sum()}")
def test_random_graphs_have_the_same_degrees(graph):
    other = random_graph(graph, np.random.default_rng(0))
    for axis in (0, 1):
        np.testing.assert_array_equal(other.sum(axis=axis), graph.sum(axis=axis))
    assert not other.diagonal().any()
    if len(graph) == 30:
        assert (other != graph).any()


@pytest.mark.slow
def test_every_graph_of_the_same_degrees_is_equally_likely():
    start = graph_of(4, (0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (3, 0))
    free = [(a, b) for a in range(4) for b in range(4) if a != b]
    same = set()
    for edges in itertools.combinations(free, 6):
        graph = graph_of(4, *edges)
        if all((graph.sum(axis=axis) == start.sum(axis=axis)).all() for axis in (0, 1)):
            same.add(graph.tobytes())
    rng = np.random.default_rng(0)
    counts = Counter(random_graph(start, rng, trades=60).tobytes() for _ in range(500))
    assert len(same) > 5 and set(counts) == same
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_degrees_by_hand():
    degrees = degree_statistics(np.array([1, 1, 3, 3]), density=0.5)
    assert (degrees.mean, degrees.std, degrees.skewness, degrees.kurtosis) == (2, 1, 0, -2)
    assert degrees.entropy == 1
    assert degrees.independent_std == 1  # sqrt(4 · 0.5 · 0.5)
    assert degree_entropy(np.array([5, 5, 5])) == 0
    assert np.isnan(degree_statistics(np.array([5, 5]), density=1.0).skewness)
