"""Tables in npz, parquet and GraphML, each read back by its own library."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import networkx as nx
import numpy as np
import pytest
from export_cases import small_connectome, small_source, unplayed_source
from pyarrow import parquet

from evoconn_cli.config.loading import load_config
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.edges import edge_table, layers_from_edges
from evoconn_cli.export.table_files import write_graphml, write_npz, write_parquet
from evoconn_cli.export.units import node_table


@pytest.fixture
def connectome():
    return small_connectome()


def nodes_of(connectome):
    return node_table(connectome, small_source(connectome).episode)


def equal(table, expected) -> None:
    assert list(table) == list(expected)
    for column, values in expected.items():
        np.testing.assert_array_equal(table[column], values)
        assert np.asarray(table[column]).dtype.kind == values.dtype.kind, column


def test_npz(connectome, tmp_path):
    write_npz(small_source(connectome), tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        edges = {name.removeprefix("edges/"): arrays[name] for name in arrays if name.startswith("edges/")}
        nodes = {name.removeprefix("nodes/"): arrays[name] for name in arrays if name.startswith("nodes/")}
        provenance = json.loads(str(arrays["provenance"]))
        gains = {name: float(arrays[f"gains/{name}"]) for name in connectome.gains._fields}
        for name, probs in connectome.probs.items():
            np.testing.assert_array_equal(arrays[f"probs/{name}"], probs)
    equal(edges, edge_table(connectome))
    equal(nodes, nodes_of(connectome))
    assert provenance == {"run": "r", "generation": 7}
    assert gains == connectome.gains._asdict()
    matrix = np.zeros((6, 6), bool)
    recurrent = edges["layer"] == "recurrent"
    matrix[edges["pre_index"][recurrent], edges["post_index"][recurrent]] = True
    np.testing.assert_array_equal(matrix, connectome.layers["recurrent"])


def test_npz_of_real_weights(tmp_path):
    config = load_config(None, ["task.name=probe_sign", "algo.name=es", "network.name=mlp", "network.num_neurons=4"])
    random = np.random.default_rng(0)
    layers = {"Dense_0/kernel": random.normal(size=(3, 4)).astype(np.float32)}
    biases = {"Dense_0/bias": random.normal(size=4).astype(np.float32)}
    mean, std = np.arange(3, dtype=np.float32), np.ones(3, np.float32)
    mlp = Connectome(config, 2, "deterministic", layers, biases, {}, None, mean, std, 2)
    write_npz(unplayed_source(mlp), tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {
            "kernels/Dense_0/kernel",
            "biases/Dense_0/bias",
            "normalizer/mean",
            "normalizer/std",
            "constants",
            "provenance",
        }
        np.testing.assert_array_equal(arrays["kernels/Dense_0/kernel"], layers["Dense_0/kernel"])
        np.testing.assert_array_equal(arrays["biases/Dense_0/bias"], biases["Dense_0/bias"])
        np.testing.assert_array_equal(arrays["normalizer/mean"], mean)


def test_parquet(connectome, tmp_path):
    write_parquet(small_source(connectome), tmp_path / "out")
    for name, expected in (("edges", edge_table(connectome)), ("nodes", nodes_of(connectome))):
        table = parquet.read_table(tmp_path / "out" / f"{name}.parquet")
        read = {column: np.array(table[column].to_pylist(), expected[column].dtype) for column in table.column_names}
        equal(read, expected)
        assert json.loads(table.schema.metadata[b"provenance"])["generation"] == 7
        assert all(field.metadata[b"description"] for field in table.schema)
    assert str(table.schema.field("index").type) == "int32"


def test_graphml(connectome, tmp_path):
    write_graphml(small_source(connectome), tmp_path / "x.graphml")
    graph = nx.read_graphml(tmp_path / "x.graphml")
    assert graph.is_directed()
    assert json.loads(graph.graph["provenance"])["run"] == "r"
    nodes = nodes_of(connectome)
    assert list(graph) == nodes["node"].tolist()
    for column, values in nodes.items():
        if column != "node":
            read = np.array([graph.nodes[name][column] for name in graph], values.dtype)
            np.testing.assert_array_equal(read, values)
    rows = [{"pre": pre, "post": post, **data} for pre, post, data in graph.edges(data=True)]
    table = {column: np.array([row[column] for row in rows]) for column in ("layer", "pre", "post", "sign")}
    table["weight"] = np.array([row["signed_weight"] for row in rows])
    layers = layers_from_edges(table, connectome, "graph")
    for name, layer in connectome.layers.items():
        np.testing.assert_array_equal(layers[name], layer)
    assert all(row["weight"] == abs(row["signed_weight"]) for row in rows)


def test_graphml_declares_the_type_of_every_attribute(connectome, tmp_path):
    write_graphml(small_source(connectome), tmp_path / "x.graphml")
    root = ET.parse(tmp_path / "x.graphml").getroot()
    keys = {(key.get("for"), key.get("attr.name")): key.get("attr.type") for key in root.findall("{*}key")}
    assert keys["edge", "weight"] == "double"
    assert keys["edge", "probability"] == "double"
    assert keys["edge", "sign"] == "long"
    assert keys["node", "label"] == keys["node", "type"] == keys["edge", "layer"] == "string"
    assert keys["node", "index"] == "long"
    ids = [key.get("id") for key in root.findall("{*}key")]
    assert len(ids) == len(set(ids)), "a reader takes an attribute of nodes for one of edges"
