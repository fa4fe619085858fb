"""The SONATA files, read back by libsonata."""

from __future__ import annotations

import json

import h5py
import libsonata
import numpy as np
import pytest
from export_runs import recorded_source

from evoconn_cli.export.sonata import EDGE_TYPES, NODE_TYPES, write_sonata
from evoconn_cli.export.sonata_files import edge_index


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A directory and its source."""
    folder = tmp_path_factory.mktemp("sonata")
    source = recorded_source(folder / "run", "network.excitatory_ratio=0.6", "rollout.warmup_steps=3")
    write_sonata(source, folder / "out")
    return folder / "out", source


@pytest.fixture(scope="module")
def circuit(written):
    return libsonata.CircuitConfig.from_file(str(written[0] / "circuit_config.json"))


def test_the_circuit_is_complete(circuit, written):
    connectome = written[1].connectome
    assert circuit.config_status == libsonata.CircuitConfigStatus.complete
    sizes = {name: circuit.node_population(name).size for name in circuit.node_populations}
    assert sizes == {
        "inputs": 2 * connectome.observation_size,
        "neurons": connectome.num_neurons,
        "actions": connectome.action_size,
    }
    assert circuit.edge_populations == set(connectome.layers)


def test_layers_come_back(circuit, written):
    connectome = written[1].connectome
    for name, layer in connectome.layers.items():
        edges = circuit.edge_population(name)
        everything = edges.select_all()
        read = np.zeros_like(layer)
        pre, post = edges.source_nodes(everything), edges.target_nodes(everything)
        read[pre, post] = True
        np.testing.assert_array_equal(read, layer)
        assert edges.size == layer.sum()
        probability = edges.get_attribute("probability", everything)
        np.testing.assert_array_equal(probability, connectome.probs[name][pre, post])
        sign = np.ones(len(pre)) if name == "input" else connectome.neuron_types[pre]
        weight = np.float32(getattr(connectome.gains, name)) * sign
        np.testing.assert_allclose(edges.get_attribute("syn_weight", everything), weight, rtol=1e-6)
        assert set(edges.get_attribute("delay", everything)) == {0.5 if name == "recurrent" else 0.0}


def test_the_indices_find_the_edges_of_a_node(circuit, written):
    layer = written[1].connectome.layers["recurrent"]
    edges = circuit.edge_population("recurrent")
    for node in (0, 37, 69):
        sent = edges.target_nodes(edges.efferent_edges([node]))
        assert sorted(sent) == np.flatnonzero(layer[node]).tolist()
        received = edges.source_nodes(edges.afferent_edges([node]))
        assert sorted(received) == np.flatnonzero(layer[:, node]).tolist()


def test_the_index_has_the_name_that_each_reader_looks_for(written):
    for layer in written[1].connectome.layers:
        with h5py.File(written[0] / "network" / f"{layer}_edges.h5") as file:
            for index in file[f"edges/{layer}/indices"].values():
                assert index["node_id_to_range"] == index["node_id_to_ranges"]  # one dataset with two names
    with h5py.File(written[0] / "output" / "action.h5") as file:
        mapping = file["report/actions/mapping"]
        assert mapping["index_pointer"] == mapping["index_pointers"]


def test_an_index_of_nodes_without_edges():
    nodes, ranges = edge_index(np.array([3, 1, 1, 3, 3, 1]), 5)
    found = [np.concatenate([np.arange(0), *(np.arange(*ranges[row]) for row in range(*span))]) for span in nodes]
    assert [edges.tolist() for edges in found] == [[], [1, 2, 5], [], [0, 3, 4], []]
    assert [len(part) for part in edge_index(np.array([], int), 2)] == [2, 0]


def test_types_of_nodes_and_edges_are_in_the_tables(written):
    folder, source = written
    types = source.connectome.neuron_types
    for table, file in ((NODE_TYPES, "node_types.csv"), (EDGE_TYPES, "edge_types.csv")):
        lines = (folder / "network" / file).read_text().splitlines()
        assert [line.split(" ") for line in lines] == [[str(value) for value in row] for row in table]
    with h5py.File(folder / "network" / "neurons_nodes.h5") as file:
        np.testing.assert_array_equal(file["nodes/neurons/node_type_id"], np.where(types > 0, 1, 2))
        assert file.attrs["magic"] == 0x0A7A
    with h5py.File(folder / "network" / "output_edges.h5") as file:
        edges = file["edges/output"]
        senders = edges["source_node_id"][()]
        np.testing.assert_array_equal(edges["edge_type_id"], np.where(types[senders] > 0, 3, 4))
        assert edges["source_node_id"].attrs["node_population"] == "neurons"


def test_attributes_of_nodes(circuit, written):
    source = written[1]
    inputs, neurons = circuit.node_population("inputs"), circuit.node_population("neurons")
    size = source.connectome.observation_size
    assert inputs.get_attribute("name", size) == "x0-"
    np.testing.assert_array_equal(
        inputs.get_attribute("mean", inputs.select_all()), np.tile(source.connectome.obs_mean, 2)
    )
    assert neurons.get_attribute("type", 0) == "excitatory"
    v_init = neurons.get_dynamics_attribute("v_init", neurons.select_all())
    np.testing.assert_array_equal(v_init, source.episode.initial["v"])


def test_spikes_and_reports_are_the_episode(written):
    folder, source = written
    episode = source.episode
    simulation = libsonata.SimulationConfig.from_file(str(folder / "simulation_config.json"))
    assert (simulation.run.dt, simulation.run.tstop) == (0.5, 20 * 16.5)
    spikes = libsonata.SpikeReader(simulation.output.spikes_file)["neurons"]
    assert (spikes.sorting, spikes.time_units) == ("by_time", "ms")
    raster = np.zeros((20 * 33, 70), bool)
    for node, time in spikes.get():
        raster[round(time / 0.5) - 1, node] = True
    np.testing.assert_array_equal(raster.reshape(episode.spikes.shape), episode.spikes)
    assert raster.any()
    x = np.concatenate([episode.normalized, -episode.normalized], axis=1)
    values = {"input_x": x, "input_current": episode.input_currents, "action": episode.raw_actions}
    assert set(simulation.list_report_names) == set(values)
    for name, expected in values.items():
        reader = libsonata.SomaReportReader(str(folder / "output" / simulation.report(name).file_name))
        (population,) = reader.get_population_names()
        assert population == simulation.report(name).cells
        np.testing.assert_array_equal(reader[population].get().data, expected)
        # The time of a frame is when its value begins to hold: of an action, at the end of its step.
        start = 16.5 if name == "action" else 0.0
        assert reader[population].times == (start, start + 20 * 16.5, 16.5)
        report = simulation.report(name)
        assert (report.start_time, report.end_time, report.dt) == reader[population].times


def test_the_first_action_follows_from_the_initial_rates_as_the_model_has_them(circuit, written):
    """All that the file says: rates of neurons without a sign, and weights with one."""
    folder, source = written
    neurons, edges = circuit.node_population("neurons"), circuit.edge_population("output")
    rate = neurons.get_dynamics_attribute("rate_init", neurons.select_all()).astype(float)
    assert (rate >= 0).all() and (rate[source.connectome.neuron_types < 0] > 0).any()
    constants = json.loads((folder / "components" / "lif.json").read_text())
    decay = np.exp(-constants["dt"] / constants["tau_out"])
    for spikes in source.episode.spikes[0]:
        impulse = spikes / constants["dt"]
        rate = impulse + decay * (rate - impulse)
    every = edges.select_all()
    action = np.zeros(source.connectome.action_size)
    np.add.at(
        action, edges.target_nodes(every), edges.get_attribute("syn_weight", every) * rate[edges.source_nodes(every)]
    )
    np.testing.assert_allclose(action, source.episode.raw_actions[0], rtol=1e-4, atol=1e-6)


def test_parameters_of_the_models(written):
    folder, source = written
    lif = json.loads((folder / "components" / "lif.json").read_text())
    assert lif == {"tau_m": 10.0, "tau_syn": 5.0, "tau_out": 10.0, "dt": 0.5, "v_rest": 0.0, "v_threshold": 1.0}
    assert json.loads((folder / "components" / "readout.json").read_text()) == {"tau_out": 10.0, "dt": 0.5}
