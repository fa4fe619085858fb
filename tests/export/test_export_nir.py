"""The NIR graph: read back, and run from its own equations on the recorded episode."""

from __future__ import annotations

import json

import nir
import numpy as np
import pytest
from export_runs import DENSE, recorded_source
from nir_interpreter import run_graph

from evoconn_cli.export.nir_graph import write_nir

pytestmark = pytest.mark.slow

CONN_SNN = ("network.v_rest=-0.2", "network.v_threshold=0.9", "network.tau_out_ms=7.0", "network.excitatory_ratio=0.6")
CASES = {
    "conn_snn-continuous": (CONN_SNN, "continuous"),
    "conn_snn-euler": ((*CONN_SNN, "rollout.warmup_steps=3"), "euler"),
    "dense_snn-continuous": (DENSE, "continuous"),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def written(request, tmp_path_factory):
    """A graph and its recording, read back, and the source of both."""
    folder = tmp_path_factory.mktemp("nir")
    overrides, tau = request.param
    source = recorded_source(folder / "run", *overrides, nir_tau=tau)
    write_nir(source, folder / "x.nir")
    return nir.read(folder / "x.nir"), nir.read_data(str(folder / "x-recording.h5")), source


def test_the_graph_gives_the_recorded_spikes_and_actions(written):
    graph, recording, source = written
    x = recording.nodes["input"].observables["x"].data[0]
    spikes = recording.nodes["neurons"].observables["spikes"].data[0]
    given, potentials = run_graph(graph, x)
    assert 0.005 < spikes.mean() < 0.9 and (spikes.any(axis=0)).mean() > 0.3, "an episode that tests little"
    substeps = int(graph.metadata["substeps"])
    # Sums of real weights are rounded by the engine, and in the end that moves a spike; sums of booleans are exact.
    steps = 5 if source.connectome.network.name == "dense_snn" else len(spikes) // substeps
    np.testing.assert_array_equal(given["neurons"].astype(bool)[: steps * substeps], spikes[: steps * substeps])
    for node, observable in (("output", "action"), ("synapses", "v"), ("neurons", "v")):
        recorded = recording.nodes[node].observables[observable].data[0]
        after = potentials[node] if node == "neurons" else given[node]
        np.testing.assert_allclose(after[substeps - 1 :: substeps][:steps], recorded[:steps], rtol=1e-4, atol=1e-4)


def test_the_recording_is_the_episode_and_fits_the_graph(written):
    graph, recording, source = written
    recording.check_nodes(graph)
    episode = source.episode
    spikes = recording.nodes["neurons"].observables["spikes"]
    assert spikes.dt == graph.metadata["dt"] == 0.0005
    np.testing.assert_array_equal(spikes.data[0].reshape(episode.spikes.shape), episode.spikes)
    np.testing.assert_array_equal(recording.nodes["neurons"].observables["v"].data[0], episode.states["v"])
    x = recording.nodes["input"].observables["x"]
    np.testing.assert_array_equal(x.data[0, :: episode.spikes.shape[1]], episode.normalized)
    assert x.n_time_steps == spikes.n_time_steps


def test_who_follows_the_first_edge_of_each_node_comes_to_the_output(written):
    graph, _, _ = written
    first, way = {}, ["input"]
    for source, target in graph.edges:
        first.setdefault(source, target)
    while way[-1] in first and len(way) <= len(graph.nodes):
        way.append(first[way[-1]])
    assert way == ["input", "input_weights", "neurons", "output_weights", "readout", "output"]


def test_every_resistance_is_one_and_times_are_those_of_the_configuration(written):
    graph, _, source = written
    network = source.connectome.network
    for name, tau_ms in (
        ("neurons", network.tau_m_ms),
        ("synapses", network.tau_syn_ms),
        ("readout", network.tau_out_ms),
    ):
        node = graph.nodes[name]
        assert set(node.r) == {1.0}
        expected = tau_ms if graph.metadata["tau"] == "continuous" else 0.5 / (1 - np.exp(-0.5 / tau_ms))
        np.testing.assert_allclose(node.tau, expected / 1000, rtol=1e-6)
    assert set(graph.nodes["neurons"].v_threshold) == {np.float32(network.v_threshold)}
    assert set(graph.nodes["neurons"].v_reset) == {np.float32(network.v_rest)}


def test_the_metadata_say_where_the_network_is_from_and_how_observations_come_in(written):
    graph, _, source = written
    assert json.loads(graph.metadata["provenance"])["generation"] == 2
    np.testing.assert_array_equal(graph.metadata["observation_mean"], source.connectome.obs_mean)
    episode = source.episode
    x = (episode.observations - graph.metadata["observation_mean"]) / graph.metadata["observation_std"]
    np.testing.assert_allclose(x, episode.normalized, rtol=1e-6)
