"""Statistics of a connectome: each against a few lines of its own, and against what training logs."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from connectome_cases import connectome_of, random_connectome
from strategy_configs import ec_config

from evoconn_cli.engine.strategies.connectivity import make_connectivity
from evoconn_cli.export.analysis.reports import as_json, statistics_table
from evoconn_cli.export.analysis.statistics import certainty, certainty_by_layer, connectome_statistics

INPUT = np.array([[1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0]], bool)  # one observation, as x and as -x
RECURRENT = np.zeros((6, 6), bool)
RECURRENT[[0, 0, 1, 3, 3, 4, 2], [1, 3, 0, 0, 3, 0, 5]] = True
OUTPUT = np.array([[1, 1], [0, 1], [0, 0], [1, 0], [0, 0], [0, 0]], bool)


@pytest.fixture(scope="module")
def by_hand():
    return connectome_statistics(connectome_of({"input": INPUT, "recurrent": RECURRENT, "output": OUTPUT}))


def test_densities_by_hand(by_hand):
    expected = {
        "all": (4 + 7 + 4) / (12 + 36 + 12),
        "input": 4 / 12,
        "recurrent": 7 / 36,
        "output": 4 / 12,
        "E->E": 2 / 9,  # neurons 0 to 2 are excitatory
        "E->I": 2 / 9,
        "I->E": 2 / 9,
        "I->I": 1 / 9,
        "input->E": 4 / 6,
        "input->I": 0,
        "E->output": 3 / 6,
        "I->output": 1 / 6,
    }
    assert by_hand.density == pytest.approx(expected)


def test_the_rest_by_hand(by_hand):
    assert by_hand.self_connections == 1
    assert by_hand.reciprocity.value == pytest.approx(4 / 6)  # 0 <-> 1 and 0 <-> 3, without the self-connection
    assert by_hand.components == [3, 1, 1, 1]
    assert by_hand.unreached == 1  # neuron 4: 3 by way of 0, 5 by way of 2
    assert by_hand.without_effect == 2  # neurons 2 and 5
    assert by_hand.onto_actions == [{"E": 1, "I": 1}, {"E": 2, "I": 0}]
    # Onto 0: one E, two I. Onto 1: E. Onto 3: one of each. Onto 5: E. Nothing onto 2 and 4.
    balances = [-1 / 3, 1, 0, 1]
    assert by_hand.balance == pytest.approx(np.mean(balances))
    assert by_hand.balance_std == pytest.approx(np.std(balances))
    assert by_hand.in_degree.mean == by_hand.out_degree.mean == pytest.approx(7 / 6)
    assert by_hand.sizes["recurrent_connections"] == 7


def test_an_observation_that_acts_both_ways_reaches_nothing():
    both = np.array([[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]], bool)
    found = connectome_statistics(connectome_of({"input": both, "recurrent": RECURRENT, "output": OUTPUT}))
    assert found.unreached == 6


@pytest.mark.slow
def test_certainty_is_what_training_logs():
    eps = 1e-3
    shapes = {"input": (6, 20), "recurrent": (20, 20), "output": (20, 2)}
    rng = np.random.default_rng(0)
    bounds = np.float32([eps, 1 - eps, 2.5 * eps, 1 - 2.5 * eps, 3.5 * eps, 0.5, 0.2])
    probs = {name: rng.choice(bounds, shape) for name, shape in shapes.items()}
    found = certainty_by_layer(dataclasses.replace(random_connectome(), probs=probs))
    near = np.concatenate([np.isin(p, bounds[:4]).ravel() for p in probs.values()])
    assert found["all"].saturated == pytest.approx(near.mean())
    strategy = make_connectivity(ec_config(40, eps=eps), connection_shapes=shapes)
    state = strategy.init(jax.random.key(0))._replace(probs={name: jnp.asarray(p) for name, p in probs.items()})
    logged = strategy.metrics(state)
    assert found["all"].entropy == pytest.approx(float(logged["entropy"]), rel=1e-5)
    assert found["all"].saturated == pytest.approx(float(logged["saturated"]), rel=1e-6)
    assert certainty(np.full((2, 2), 0.5, np.float32), eps).entropy == 1


def test_a_small_world_is_seen():
    ring = nx.to_numpy_array(nx.watts_strogatz_graph(60, 6, 0.1, seed=0)).astype(bool)
    layers = {"input": np.ones((2, 60), bool), "recurrent": ring, "output": np.ones((60, 1), bool)}
    statistics = connectome_statistics(connectome_of(layers))
    assert statistics.small_worldness > 2
    assert statistics.clustering.z > 10 and statistics.modularity.z > 5 and statistics.reciprocity.z > 10
    assert statistics.reciprocity.value == 1


def test_a_random_network_is_like_its_random_graphs():
    statistics = connectome_statistics(random_connectome(60))
    assert statistics.small_worldness == pytest.approx(1, abs=0.02)
    for measure in (statistics.reciprocity, statistics.clustering, statistics.modularity):
        assert abs(measure.z) < 4
    assert statistics.in_degree.std == pytest.approx(statistics.in_degree.independent_std, rel=0.3)


def test_the_same_seed_gives_the_same_statistics():
    assert connectome_statistics(random_connectome(), seed=3) == connectome_statistics(random_connectome(), seed=3)
    first, second = (connectome_statistics(random_connectome(), seed=seed) for seed in (3, 4))
    assert first.reciprocity.random_mean != second.reciprocity.random_mean


def test_random_graphs_are_counted_as_they_are_drawn():
    drawn = []
    connectome_statistics(random_connectome(), num_random_graphs=3, progress=drawn.append)
    assert drawn == [1, 2, 3]


@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize("density", [0.0, 1.0])
def test_extremes_have_statistics_that_json_can_hold(ratio, density):
    statistics = connectome_statistics(random_connectome(8, density=density, excitatory_ratio=ratio))
    text = json.dumps(as_json(statistics), allow_nan=False)
    other = "I" if ratio else "E"
    assert not any(other in name for name in statistics.density)
    assert json.loads(text)["path_length"]["value"] == (None if density == 0 else 1)
    assert statistics.unreached == 8  # with all connections, every observation acts both ways
    assert statistics_table([statistics]).row_count > 10
    assert statistics_table([statistics, statistics]).row_count == 2
