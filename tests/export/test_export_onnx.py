"""ONNX models of policies: run in onnxruntime beside the recorded episode, and as the docs show it."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest
from export_runs import DENSE, recorded_source
from paths import DOCS
from plugins import forgotten
from saved_runs import save_run

import evoconn_cli
from evoconn_cli.config.registry import find, names
from evoconn_cli.errors import EvoconnError
from evoconn_cli.export.onnx_model import _BODIES, write_onnx
from evoconn_cli.export.onnx_replay import verify_onnx
from evoconn_cli.networks.flax_networks import make_flax_network

CONN_SNN = (
    "network.num_neurons=150", "network.v_rest=-0.2", "network.v_threshold=0.9", "network.tau_out_ms=7.0",
    "network.excitatory_ratio=0.6", "network.gain_in=0.5", "rollout.warmup_steps=3",
)  # fmt: skip
CASES = {"conn_snn": CONN_SNN, "dense_snn": DENSE} | {
    name: ("algo.name=es", f"network.name={name}") for name in ("gru", "lstm", "mlp")
}


@pytest.fixture(scope="module", params=CASES)
def written(request, tmp_path_factory):
    """A model, and the source that it was written of."""
    folder = tmp_path_factory.mktemp("onnx")
    source = recorded_source(folder / "run", *CASES[request.param])
    write_onnx(source, folder / "generation-120.onnx")
    return folder / "generation-120.onnx", source


def outputs(session, feed):
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, feed), strict=True))


@pytest.mark.slow
def test_the_model_gives_the_recorded_episode(written):
    """Spikes and carry of booleans to the last bit from its own carry, else each step from the recorded carry."""
    path, source = written
    session, episode, carry = onnxruntime.InferenceSession(path), source.episode, source.episode.initial
    exact = source.connectome.network.name == "conn_snn"
    recorded = episode.states
    close = np.testing.assert_array_equal if exact else lambda *both: np.testing.assert_allclose(*both, atol=1e-5)
    for step, observation in enumerate(episode.observations):
        given = outputs(session, {name: x[None] for name, x in {"observation": observation, **carry}.items()})
        np.testing.assert_allclose(given["action"][0], episode.actions[step], atol=1e-5)
        carry = {name: given[f"next_{name}"][0] for name in recorded}
        for name, array in carry.items():
            close(array, recorded[name][step])
        if source.connectome.neurons is not None:
            np.testing.assert_array_equal(given["spike_train"][:, 0], episode.spikes[step])
        carry = carry if exact else {name: array[step] for name, array in recorded.items()}
    if source.connectome.neurons is not None:
        assert 0.005 < episode.spikes.mean() < 0.9 and episode.spikes.any(axis=(0, 1)).mean() > 0.3, "tests little"
    assert f"{episode.num_steps} steps in onnxruntime" in verify_onnx(source, path)


@pytest.mark.slow
def test_rows_of_a_batch_are_policies_of_their_own(written):
    path, source = written
    session, episode, carry = onnxruntime.InferenceSession(path), source.episode, source.episode.initial
    observations = episode.observations[:3]
    carries = {name: np.stack([x, x[::-1], x]) for name, x in carry.items()}
    together = outputs(session, {"observation": observations, **carries})
    for row in range(3):
        alone = outputs(
            session, {"observation": observations[[row]], **{name: x[[row]] for name, x in carries.items()}}
        )
        for name, x in alone.items():
            of_row = together[name][:, [row]] if name == "spike_train" else together[name][[row]]
            np.testing.assert_allclose(of_row.astype(float), x.astype(float), atol=1e-5)


@pytest.mark.slow
def test_the_example_of_the_docs_runs(written, monkeypatch):
    path, source = written
    monkeypatch.chdir(path.parent)
    (code,) = (
        code
        for code in re.findall(r"```python\n(.*?)```", (DOCS / "export.md").read_text(), flags=re.DOTALL)
        if "onnxruntime" in code
    )
    names: dict = {}
    exec(code, names)
    assert names["action"].shape == (1, source.connectome.action_size)
    assert set(names["carry"]) == set(source.episode.initial)
    if names["carry"]:
        start = {name: x[None] for name, x in source.episode.initial.items()}
        first = outputs(onnxruntime.InferenceSession(path), {"observation": names["observation"], **start})
        assert any((first[f"next_{name}"] != x).any() for name, x in names["carry"].items()), "stayed that of step 1"


@pytest.mark.slow
def test_the_file_says_what_it_is_and_is_small(written):
    path, source = written
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [one.version for one in model.opset_import if one.domain == ""] == [17]
    metadata = {one.key: one.value for one in model.metadata_props}
    assert metadata["network"] == source.connectome.network.name and metadata["task"] == "probe_sign"
    assert metadata["generation"] == "2" and json.loads(metadata["provenance"])["generation"] == 2
    assert float(metadata["step_seconds"]) == pytest.approx(source.episode.dt_s)
    assert all(one.doc_string for one in (*model.graph.input, *model.graph.output))
    if source.connectome.neuron_types is not None:
        recurrent = next(one for one in model.graph.initializer if one.name == "recurrent")
        assert recurrent.data_type == onnx.TensorProto.INT8
        assert path.stat().st_size < 150 * 150 + 40_000


@pytest.mark.slow
def test_a_model_that_computes_something_else_does_not_verify(written, tmp_path):
    path, source = written
    model = onnx.load(path)
    for one in model.graph.initializer:
        if one.name in ("recurrent", "hn", "hi", "Dense_0"):
            one.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(one), one.name))
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(
        EvoconnError, match=r"other\.onnx does not verify: step \d+, (sub-step \d+, neuron|action|next)"
    ):
        verify_onnx(source, tmp_path / "other.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("written", ["conn_snn", "dense_snn"], indirect=True)
def test_another_spike_is_counted_with_real_weights_and_an_error_with_booleans(written):
    path, source = written
    spikes = source.episode.spikes.copy()
    spikes[3, 7, 11] ^= True
    other = dataclasses.replace(source, record=lambda: dataclasses.replace(source.episode, spikes=spikes))
    place = "step 3, sub-step 7, neuron 11"
    if source.connectome.neuron_types is None:
        assert re.search(
            f"in 19 of them all spikes are as recorded.*first other spike is in {place}", verify_onnx(other, path)
        )
    else:
        with pytest.raises(EvoconnError, match=f"does not verify: {place}: another spike than recorded"):
            verify_onnx(other, path)


@pytest.mark.slow
def test_the_command_writes_and_verifies(evoconn, tmp_path, monkeypatch):
    run = save_run(tmp_path / "run")
    code, out, _ = evoconn("export-connectivity", run, "--format", "onnx", "--verify", "--out", tmp_path / "a.onnx")
    assert code == 0 and (tmp_path / "a.onnx").exists()
    assert re.search(r"verified: 8 steps in onnxruntime: all \d+ spikes are as recorded", " ".join(out.split()))
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnxruntime" else real(name, *a))
    code, _, err = evoconn("export-connectivity", run, "--format", "onnx", "--verify", "--out", tmp_path / "b.onnx")
    assert code == 1 and "pip install onnxruntime" in err and not (tmp_path / "b.onnx").exists()


def test_all_networks_of_our_own_can_be_written():
    assert set(_BODIES) == {name for name in names("network") if find("network", name).plugin is None}


@pytest.mark.slow
def test_the_network_of_a_plugin_is_refused(evoconn, tmp_path):
    """Even if it has the layers of one of ours, since it may compute something else."""

    def make(config, *, observation_size, action_size, on_cpu):
        sizes = dict(observation_size=observation_size, action_size=action_size, num_neurons=config.num_neurons)
        return dataclasses.replace(make_flax_network("gru", **sizes), name="mine")

    with forgotten():
        published = {"es": {"sigma": 0.1, "learning_rate": 0.1}}
        evoconn_cli.register_network("mine", candidates="weights", published=published)(make)
        run = save_run(tmp_path / "run", "algo.name=es", "network.name=mine")
        code, _, err = evoconn("export-connectivity", run, "--format", "onnx")
    assert code == 2 and "onnx does not hold mine: it is of a plug-in" in err and "Formats for mine: npz." in err
