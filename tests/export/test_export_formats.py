"""The exchange formats as a user asks for them: all of them from one run, and those that hold real weights."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import pytest
from saved_runs import save_run

from evoconn_cli.export.text_files import read_table

EXCHANGE = "npz,csv,parquet,graphml,nir,sonata"


@pytest.fixture
def export(evoconn, tmp_path):
    """Exports the last checkpoint of a new run and returns the directory with the files."""

    def run(network: str, *arguments: str) -> Path:
        path = save_run(tmp_path / network, f"network.name={network}")
        assert evoconn("export-connectivity", path, *arguments)[0] == 0
        return path / "exports"

    return run


@pytest.mark.slow
def test_all_of_one_run_hold_the_same_connections(export):
    out = export("conn_snn", "--format", EXCHANGE, "--nir-tau", "euler")
    assert sorted(path.name for path in out.iterdir()) == [
        "generation-6-csv",
        "generation-6-euler-recording.h5",
        "generation-6-euler.nir",
        "generation-6-parquet",
        "generation-6-sonata",
        "generation-6.graphml",
        "generation-6.npz",
    ]
    with np.load(out / "generation-6.npz") as tables:
        recurrent = tables["edges/layer"] == "recurrent"
        connected = np.zeros((40, 40), bool)
        connected[tables["edges/post_index"][recurrent], tables["edges/pre_index"][recurrent]] = True
        pre = tables["edges/pre"].tolist()
    graph = nir.read(out / "generation-6-euler.nir")
    np.testing.assert_array_equal(graph.nodes["recurrent_weights"].weight != 0, connected)
    assert graph.metadata["tau"] == "euler"
    assert read_table(out / "generation-6-csv" / "edges.csv")["pre"].tolist() == pre


@pytest.mark.parametrize("network", ["gru", "mlp"])
def test_npz_has_all_that_the_network_computes_with(export, network):
    out = export(network, "--format", "npz")
    with np.load(out / "generation-6.npz") as arrays:
        layers = {name for name in arrays if name.startswith("kernels/")}
        biases = {name for name in arrays if name.startswith("biases/")}
        assert layers and biases
        assert all(arrays[name].ndim == 2 for name in layers) and all(arrays[name].ndim == 1 for name in biases)
        assert all(arrays[name].any() for name in layers | biases)
