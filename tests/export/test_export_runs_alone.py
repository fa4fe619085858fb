"""Tables and weights hold all that is needed to run a network: simulators that read nothing else give the recording."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from export_cases import small_connectome, small_episode
from export_runs import DENSE, recorded_source
from pyarrow import parquet

from evoconn_cli.config.formats import FORMATS
from evoconn_cli.export.brian2_script import steps_in_float64
from evoconn_cli.export.units import STATE_COLUMNS, node_table

WARM = "rollout.warmup_steps=2"
"""The episode begins with spikes, currents and rates."""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return recorded_source(tmp_path_factory.mktemp("run") / "run", WARM, "network.gain_in=0.5", with_episode=True)


def columns(rows: list[dict]) -> dict[str, np.ndarray]:
    table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {name: _numbers(values) for name, values in table.items()}


def _numbers(values: np.ndarray) -> np.ndarray:
    try:
        return values.astype(np.float64)
    except ValueError:
        return values


def read_csv(path: Path):
    tables = {file.stem: columns(list(csv.DictReader(file.read_text().splitlines()))) for file in path.glob("*.csv")}
    return tables, json.loads((path / "constants.json").read_text(encoding="utf-8"))


def read_parquet(path: Path):
    tables = {file.stem: columns(parquet.read_table(file).to_pylist()) for file in path.glob("*.parquet")}
    return tables, json.loads((path / "constants.json").read_text(encoding="utf-8"))


def read_npz(path: Path):
    with np.load(path, allow_pickle=False) as arrays:
        tables: dict = {}
        for name in arrays:
            table, _, column = name.partition("/")
            tables.setdefault(table, {})[column] = arrays[name]
        return tables, json.loads(str(arrays["constants"]))


def read_graphml(path: Path):
    graph = nx.read_graphml(path)
    nodes = columns([{"node": name, **data} for name, data in graph.nodes(data=True)])
    index = dict(zip(nodes["node"], nodes["index"], strict=True))
    edges = columns(
        [{"pre_index": index[pre], "post_index": index[post], **data} for pre, post, data in graph.edges(data=True)]
    )
    edges["weight"] = edges["signed_weight"]
    with np.load(path.with_name(f"{path.stem}-episode.npz")) as arrays:
        return {"nodes": nodes, "edges": edges, "episode": dict(arrays)}, json.loads(graph.graph["constants"])


def episode_of(tables) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns what the network saw `[T, O]`, its spikes `[T, S, N]`, and actions `[T, A]`."""
    neurons = tables["nodes"]["node"][tables["nodes"]["population"] == "neurons"].tolist()
    if "episode" in tables:
        arrays = tables["episode"]
        return arrays["x"], np.unpackbits(arrays["spikes"], axis=2, count=len(neurons)), arrays["action"]
    steps, spikes = tables["episode_steps"], tables["episode_spikes"]
    x, action = (
        np.stack([steps[column] for column in steps if re.fullmatch(rf"{name}_\d+", column)], axis=1)
        for name in ("x", "action")
    )
    found = np.zeros((len(x), 33, len(neurons)))
    number = [neurons.index(name) for name in spikes["node"]]
    found[spikes["step"].astype(int), spikes["substep"].astype(int), number] = 1
    return x, found, action


def simulated(tables, constants, x) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns spikes, actions and firing rates, computed from weights of edges and states of nodes in float64."""
    c = {name: one["value"] for name, one in constants["constants"].items()}
    nodes, edges, sizes = tables["nodes"], tables["edges"], constants["sizes"]
    kernels = {}
    for layer, pre, post in (
        ("input", "inputs", "neurons"),
        ("recurrent",) + ("neurons",) * 2,
        ("output", "neurons", "actions"),
    ):
        here = edges["layer"] == layer
        kernels[layer] = np.zeros((sizes[pre], sizes[post]))
        kernels[layer][edges["pre_index"][here].astype(int), edges["post_index"][here].astype(int)] = edges["weight"][
            here
        ]
    neurons = nodes["population"] == "neurons"
    v, i_syn, rate, spikes, sign = (
        nodes[name][neurons].astype(float) for name in ("v_init", "i_syn_init", "rate_init", "spiked_init", "sign")
    )
    recorded, actions = [], []
    for now in x:
        i_in = np.concatenate([now, -now]) @ kernels["input"]
        for _ in range(sizes["substeps"]):
            i_syn = c["alpha_syn"] * i_syn + spikes @ kernels["recurrent"]
            target = c["v_rest"] + i_syn + i_in
            v = target + c["alpha_m"] * (v - target)
            spikes = (v > c["v_threshold"]).astype(float)
            v = np.where(spikes, c["v_rest"], v)
            impulse = spikes * sign / c["dt"]
            rate = impulse + c["alpha_out"] * (rate - impulse)
            recorded.append(spikes)
        actions.append(np.clip(c["gain_output"] * (rate @ (kernels["output"] != 0)), -1, 1))
    seconds = len(recorded) * c["dt"] / 1000
    return np.reshape(recorded, (len(x), -1, len(v))), np.array(actions), np.sum(recorded, axis=0) / seconds


@pytest.mark.slow
@pytest.mark.parametrize("name", ["csv", "parquet", "npz", "graphml"])
def test_tables_alone_give_the_recorded_spikes(source, tmp_path, name):
    out = tmp_path / f"x{FORMATS[name].suffix}"
    FORMATS[name].load_writer()(source, out)
    tables, constants = globals()[f"read_{name}"](out)
    x, spikes, action = episode_of(tables)
    assert spikes.sum() > 1000 and tables["nodes"]["spiked_init"].any() and tables["nodes"]["i_syn_init"].any()
    found, actions, rates = simulated(tables, constants, x)
    np.testing.assert_array_equal(found, spikes)
    np.testing.assert_allclose(actions, action, atol=1e-5)
    np.testing.assert_allclose(rates, tables["nodes"]["firing_rate"][tables["nodes"]["population"] == "neurons"])
    assert constants["constants"]["tau_m"]["unit"] == "ms" and set(constants["weight"]) == {
        "input",
        "recurrent",
        "output",
    }
    assert constants["constants"]["gain_recurrent"]["value"] != source.connectome.network.gain_recurrent


@pytest.mark.slow
def test_brian2_computes_the_recorded_spikes(source, tmp_path):
    if importlib.util.find_spec("brian2") is None or np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        pytest.skip("needs Brian2 and the NumPy that it runs with: pip install brian2 'numpy<2.4'")
    FORMATS["brian2"].load_writer()(source, tmp_path / "out")
    script = tmp_path / "out" / "run_brian2.py"
    ran = in_brian2(script)
    assert ran.stdout == f"{source.episode.spikes.sum()} spikes in 20 of 20 recorded steps: all as recorded\n", (
        ran.stderr
    )
    code = script.read_text()
    for wrong in ('method="exact"', 'method="euler"'):
        script.write_text(code.replace('method="exponential_euler"', wrong))
        assert "other neurons spike than were recorded" in in_brian2(script).stderr


@pytest.mark.slow
def test_brian2_runs_the_steps_in_which_float64_gives_the_recorded_spikes(source):
    assert steps_in_float64(source.connectome, source.episode) == 20
    spikes = source.episode.spikes.copy()
    spikes[7, 30, 3] ^= True
    other = dataclasses.replace(source.episode, spikes=spikes)
    assert steps_in_float64(source.connectome, other) == 7


def in_brian2(script: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script with NumPy as Brian2's target, which compiles nothing."""
    numpy_only = "import brian2, sys, runpy; brian2.prefs.codegen.target = 'numpy'; runpy.run_path(sys.argv[1])"
    return subprocess.run([sys.executable, "-c", numpy_only, str(script)], capture_output=True, text=True)


def test_states_of_nodes_are_those_of_the_episode():
    connectome = small_connectome()
    episode = small_episode(connectome)
    table = node_table(connectome, episode)
    assert list(table)[-len(STATE_COLUMNS) :] == list(STATE_COLUMNS)
    neurons = table["population"] == "neurons"
    np.testing.assert_array_equal(table["v_init"][neurons], episode.initial["v"])
    np.testing.assert_allclose(table["firing_rate"][neurons], episode.spikes.mean(axis=(0, 1)) / 0.0005)
    assert not table["v_init"][~neurons].any() and not table["firing_rate"][~neurons].any()


def test_real_weights_of_a_spiking_network_give_the_recorded_spikes(tmp_path):
    FORMATS["npz"].load_writer()(recorded_source(tmp_path / "run", *DENSE, WARM, with_episode=True), tmp_path / "x.npz")
    arrays, constants = read_npz(tmp_path / "x.npz")
    c, kernels = {name: one["value"] for name, one in constants["constants"].items()}, arrays["kernels"]
    v, i_syn, rate, spikes = (arrays["initial"][name].astype(float) for name in ("v", "i_syn", "rate", "spikes"))
    x = (arrays["episode"]["observation"] - arrays["normalizer"]["mean"]) / arrays["normalizer"]["std"]
    recorded = np.unpackbits(arrays["episode"]["spikes"], axis=2, count=len(v))
    for step in range(4):
        i_in = c["gain_input"] * (x[step] @ kernels["kernel_in"])
        for substep in range(constants["sizes"]["substeps"]):
            i_syn = c["alpha_syn"] * i_syn + c["gain_recurrent"] * (spikes @ kernels["kernel_h"])
            target = c["v_rest"] + i_syn + i_in
            v = target + c["alpha_m"] * (v - target)
            spikes = v > c["v_threshold"]
            np.testing.assert_array_equal(spikes, recorded[step, substep])
            v, impulse = np.where(spikes, c["v_rest"], v), spikes / c["dt"]
            rate = impulse + c["alpha_out"] * (rate - impulse)
        action = c["gain_output"] * (rate @ kernels["kernel_out"])
        np.testing.assert_allclose(action, arrays["episode"]["raw_action"][step], rtol=1e-4)
    assert "impulse = 1 / dt" in " ".join(constants["update"])


@pytest.mark.slow
@pytest.mark.parametrize("network", ["gru", "lstm", "mlp"])
def test_the_equations_of_gates_compute_the_recorded_actions_as_they_are_written(tmp_path, network):
    """Runs the very lines of the file."""
    run = recorded_source(tmp_path / "run", f"network.name={network}", "algo.name=es", WARM, with_episode=True)
    FORMATS["npz"].load_writer()(run, tmp_path / "x.npz")
    arrays, constants = read_npz(tmp_path / "x.npz")
    names = {f"k_{name.split('/')[-2]}": kernel for name, kernel in arrays["kernels"].items()}
    names |= {f"b_{name.split('/')[-2]}": bias for name, bias in arrays["biases"].items()}
    names |= {"sigmoid": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh}
    names |= {"mean": arrays["normalizer"]["mean"], "std": arrays["normalizer"]["std"], **arrays.get("initial", {})}
    lines = [line for line in constants["update"] if re.match(r"\w+ = ", line)]
    code = re.sub(r"@ (\w+)", r"@ k_\1", "\n".join(lines).replace("·", "*"))
    assert network == "mlp" or any(values.any() for values in arrays["initial"].values())
    for step, observation in enumerate(arrays["episode"]["observation"]):
        names["observation"] = observation
        exec(code, names)
        np.testing.assert_allclose(names["raw_action"], arrays["episode"]["raw_action"][step], atol=1e-5)
        for name in ("h", "c"):
            if name in arrays["episode"]:
                np.testing.assert_allclose(names[name], arrays["episode"][name][step], atol=1e-5)
