"""Connections as tables, and back."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from export_cases import small_connectome, small_source, without_probs

from evoconn_cli.errors import EvoconnError
from evoconn_cli.export.edges import EDGE_COLUMNS, edge_table, layers_from_edges
from evoconn_cli.export.table_files import write_csv
from evoconn_cli.export.text_files import read_table, write_table
from evoconn_cli.export.units import NODE_COLUMNS, node_table


@pytest.fixture
def connectome():
    return small_connectome()


def same(layers, connectome) -> bool:
    return set(layers) == set(connectome.layers) and all(
        np.array_equal(layers[name], layer) for name, layer in connectome.layers.items()
    )


def test_every_row_is_a_connection_with_the_weight_that_the_engine_gives_it(connectome):
    table = edge_table(connectome)
    assert list(table) == list(EDGE_COLUMNS)
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    expected = []
    for layer, matrix in connectome.layers.items():
        for pre, post in zip(*np.nonzero(matrix), strict=True):
            sign = 1 if layer == "input" else (1 if pre < 3 else -1)
            size = connectome.observation_size
            sender = f"x{pre % size}{'+' if pre < size else '-'}" if layer == "input" else f"n{pre}"
            expected.append(
                {
                    "layer": layer,
                    "pre": sender,
                    "post": f"{'a' if layer == 'output' else 'n'}{post}",
                    "pre_index": pre,
                    "post_index": post,
                    "pre_type": "observation" if layer == "input" else "excitatory" if sign > 0 else "inhibitory",
                    "sign": sign,
                    "probability": connectome.probs[layer][pre, post],
                    "weight": sign * getattr(connectome.gains, layer),
                }
            )
    assert rows == expected


def test_nodes_are_all_units_and_edges_refer_to_them(connectome):
    nodes, edges = node_table(connectome), edge_table(connectome)
    assert list(nodes) == list(NODE_COLUMNS)
    assert len(set(nodes["node"])) == len(nodes["node"]) == 2 * 3 + 6 + 2
    by_name = {str(name): row for row, name in enumerate(nodes["node"])}
    for end in ("pre", "post"):
        rows = [by_name[name] for name in edges[end]]
        np.testing.assert_array_equal(nodes["index"][rows], edges[f"{end}_index"])
    row = by_name["x2-"]
    assert (nodes["observation"][row], nodes["factor"][row]) == (2, -1)
    assert nodes["mean"][row] == connectome.obs_mean[2]
    assert nodes["std"][row] == connectome.obs_std[2]


def test_layers_come_back_from_the_table(connectome):
    assert same(layers_from_edges(edge_table(connectome), connectome, "edges"), connectome)
    bare = {column: edge_table(connectome)[column][::-1] for column in ("layer", "pre", "post")}
    assert same(layers_from_edges(bare, without_probs(connectome), "edges"), connectome)


def test_csv_files_are_read_back_to_the_last_bit(connectome, tmp_path):
    write_csv(small_source(connectome), tmp_path / "out")
    with (tmp_path / "out" / "edges.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = edge_table(connectome)
    for column in ("probability", "weight"):
        read = np.array([row[column] for row in rows]).astype(table[column].dtype)
        np.testing.assert_array_equal(read, table[column])
    read = read_table(tmp_path / "out" / "edges.csv")
    assert same(layers_from_edges(read, connectome, "edges.csv"), connectome)
    assert read_table(tmp_path / "out" / "nodes.csv")["node"].tolist() == node_table(connectome)["node"].tolist()


def test_a_spreadsheet_may_add_a_mark_and_spaces_and_an_empty_line_at_the_end(connectome, tmp_path):
    path = tmp_path / "edges.csv"
    write_table(path, {c: edge_table(connectome)[c] for c in ("layer", "pre", "post")})
    path.write_text("\ufeff" + path.read_text().replace(",", ", ") + "\n\n", encoding="utf-8")
    assert same(layers_from_edges(read_table(path), connectome, "edges.csv"), connectome)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("inptu,x0+,n1,1,0.0333333333", "unknown layer 'inptu'. Known: input, recurrent, output"),
        ("recurrent,x0+,n1,1,1.7", "recurrent has no unit 'x0+' there. Known: n0 to n5"),
        ("output,n0,a2,1,0.3", "output has no unit 'a2' there. Known: a0 to a1"),
        ("recurrent,n5,n0,1,-1.7", "sign is 1, but n5 -> n0 has -1"),
        ("recurrent,n5,n0,-1,-0.8", "weight is -0.8, but n5 -> n0 has -1.7"),
        ("recurrent,n5,n0,-1,much", "weight is much, but n5 -> n0 has -1.7"),
        ("recurrent,n4,n0,-1,-1.7", "n4 -> n0 is there twice"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(connectome, tmp_path, line, says):
    path = tmp_path / "edges.csv"
    path.write_text(f"layer,pre,post,sign,weight\nrecurrent,n4,n0,,\n{line}\n")
    with pytest.raises(EvoconnError, match=r"edges\.csv, line 3: ") as caught:
        layers_from_edges(read_table(path), connectome, "edges.csv")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column layer and no column pre and no column post"),
        ("layer;pre;post\n", "it has layer;pre;post"),
        ("layer,pre,post\ninput,x0+\n", "line 2: 2 fields, but the first line names 3"),
        ("layer,pre,post\n\ninput,x0+,n1\n", "line 2: 0 fields"),
    ],
)
def test_files_that_are_no_table(connectome, tmp_path, text, says):
    path = tmp_path / "edges.csv"
    path.write_text(text)
    with pytest.raises(EvoconnError) as caught:
        layers_from_edges(read_table(path), connectome, "edges.csv")
    assert says in str(caught.value)


def test_an_empty_table_is_an_empty_network(connectome, tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("layer,pre,post\n")
    layers = layers_from_edges(read_table(path), connectome, "edges.csv")
    assert not any(layer.any() for layer in layers.values())
    assert layers["input"].shape == (6, 6)
