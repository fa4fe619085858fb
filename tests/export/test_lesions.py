"""A bundle that was edited by hand: what is evaluated, what is said about it, and which edits are refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.sparse
from paths import DOCS
from saved_runs import files_of, save_run

import evoconn_cli
from evoconn_cli.config.formats import ExportOptions, is_bundle
from evoconn_cli.errors import ConfigError, EvoconnError
from evoconn_cli.evaluation.evaluating import evaluate
from evoconn_cli.evaluation.exporting import make_source, open_steps
from evoconn_cli.evaluation.opened import open_run
from evoconn_cli.export.bundle.document import write_checksums
from evoconn_cli.export.bundle.reading import read_bundle, verify_bundle
from evoconn_cli.export.bundle.run_network import Network
from evoconn_cli.export.bundle.writing import HOLDS, write_bundle

pytestmark = pytest.mark.slow

PAGE = DOCS / "export.md"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run of a network that has to see and to remember, and a bundle of it."""
    folder = tmp_path_factory.mktemp("exported")
    run = save_run(folder / "run", "network.gain_in=0.5", eval_fitness={3: 1.0})
    for policy in ("deterministic", "sampled"):
        source = make_source(
            open_steps(run, None, pytest.fail), policy=policy, seed=5, max_steps=4, options=ExportOptions()
        )
        write_bundle(source, folder / policy)
    return folder


@pytest.fixture
def bundle(exported, tmp_path):
    return Path(shutil.copytree(exported / "deterministic", tmp_path / "bundle"))


def cut_in_edges(bundle: Path, *beginnings: str) -> int:
    """Removes the lines of edges.csv that begin so; returns how many."""
    lines = (bundle / "edges.csv").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(beginnings)]
    (bundle / "edges.csv").write_text("".join(kept))
    return len(lines) - len(kept)


def edit_layers(bundle: Path, name: str, change, *, packed: bool) -> None:
    """Changes one layer of kernels.npz, and writes it back as bits or as booleans."""
    post = {"input": 40, "recurrent": 40, "output": 1}[name]
    with np.load(bundle / "kernels.npz") as arrays:
        found = dict(arrays)
    layer = np.unpackbits(found[name], axis=1, count=post).astype(bool)
    change(layer)
    np.savez(bundle / "kernels.npz", **{**found, name: np.packbits(layer, axis=1) if packed else layer})


def edit_sparse(bundle: Path, name: str, change) -> None:
    layer = scipy.sparse.load_npz(bundle / "csr" / f"{name}.npz").toarray()
    change(layer)
    scipy.sparse.save_npz(bundle / "csr" / f"{name}.npz", scipy.sparse.csr_array(layer))


def silence(layer: np.ndarray) -> None:
    layer[5] = False


def test_a_bundle_is_the_network_that_was_exported(exported, bundle):
    run, read = evoconn_cli.load_run(exported / "run"), read_bundle(bundle)
    assert is_bundle(bundle) and not is_bundle(exported / "run")
    assert read.edit is None and str(read) == "bundle, as exported"
    for name, layer in read.connectome.layers.items():
        np.testing.assert_array_equal(layer, getattr(run.connectivity(), name))
        np.testing.assert_array_equal(read.connectome.probs[name], run.connectivity().probs[name])
    np.testing.assert_array_equal(read.connectome.obs_std, run.state.normalizer.std)
    assert read.connectome.config == run.config and read.connectome.gains == run._opened.network.neurons.gains


def test_a_sampled_network_stays_the_one_that_was_drawn(exported):
    read, other = read_bundle(exported / "sampled"), read_bundle(exported / "deterministic")
    assert str(read) == "bundle, sampled connections, as exported"
    assert (read.connectome.layers["recurrent"] != other.connectome.layers["recurrent"]).mean() > 0.1


@pytest.mark.slow
def test_a_lesion_study(exported, evoconn, tmp_path, monkeypatch):
    """Export, edit, evaluate: the published way of asking what a neuron is for."""
    monkeypatch.chdir(tmp_path)
    code, out, _ = evoconn("export-connectivity", exported / "run", "--out", "blind", "--verify")
    assert code == 0 and "bundle: blind" in out and "verified: " in out and "all as recorded" in out
    whole = json.loads(evoconn("evaluate", exported / "run", "--episodes", "4", "--json", "-")[1])
    same = json.loads(evoconn("evaluate", "blind", "--episodes", "4", "--json", "-")[1])
    assert same["evaluations"][0]["return"] == whole["evaluations"][0]["return"]
    assert same["evaluations"][0]["edited"] is None

    removed = cut_in_edges(Path("blind"), "input,")
    code, out, _ = evoconn("evaluate", "blind", "--episodes", "4", "--energy", "45nm")
    assert code == 0 and f"bundle, edited in edges.csv: {removed} connections removed, 0 added" in " ".join(out.split())
    lesioned = json.loads(
        evoconn("evaluate", "blind", "--episodes", "4", "--json", "-", "--perturb", "lesion-neurons=0.2")[1]
    )["evaluations"][0]
    assert lesioned["edited"] == {"form": "edges.csv", "added": 0, "removed": removed}
    assert lesioned["perturbations"] == {"lesion-neurons": 0.2}
    spikes = [one["per_step"]["spikes_per_second"] for one in (whole["evaluations"][0], lesioned)]
    assert spikes[0] > 10 * spikes[1]  # without input there is nothing but the initial potentials
    both = json.loads(evoconn("evaluate", exported / "run", "blind", "--episodes", "4", "--json", "-")[1])
    assert [one["edited"] is None for one in both["evaluations"]] == [True, False]
    assert both["aggregates"] == []
    assert both["evaluations"][0]["return"] == whole["evaluations"][0]["return"]
    assert both["evaluations"][0]["per_step"] != both["evaluations"][1]["per_step"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["edges.csv", "kernels.npz as bits", "kernels.npz as bool", "csr"])
def test_every_form_can_be_edited(exported, bundle, form):
    before = evoconn_cli.load_run(exported / "run").connectivity()
    if form == "edges.csv":
        cut_in_edges(bundle, "recurrent,n5,")
    elif form == "csr":
        edit_sparse(bundle, "recurrent", silence)
    else:
        edit_layers(bundle, "recurrent", silence, packed=form.endswith("bits"))
    loaded = evoconn_cli.load_bundle(bundle)
    after = loaded.connectivity()
    assert loaded.edit == (form.partition(" ")[0], 0, before.recurrent[5].sum())
    assert not after.recurrent[5].any()
    np.testing.assert_array_equal(np.delete(after.recurrent, 5, axis=0), np.delete(before.recurrent, 5, axis=0))
    np.testing.assert_array_equal(after.input, before.input)
    assert loaded.metrics == [] and loaded.generation == 3


def test_the_lesion_of_the_documentation(bundle, monkeypatch):
    code = next(
        code
        for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
        if "lesioned/kernels.npz" in code
    )
    outgoing = read_bundle(bundle).connectome.layers["recurrent"][5].sum()
    bundle.rename(bundle.with_name("lesioned"))
    monkeypatch.chdir(bundle.parent)
    exec(code.replace("[89]", "[5]"), {})  # this network has fewer neurons than that of the docs
    assert read_bundle(Path("lesioned")).edit == ("kernels.npz", 0, outgoing)


def test_connections_can_be_added(bundle):
    with (bundle / "edges.csv").open("a") as file:
        layer = read_bundle(bundle).connectome.layers["recurrent"]
        pre, post = np.argwhere(~layer)[0]
        file.write(f"recurrent,n{pre},n{post},,,,,,\n")
    read = read_bundle(bundle)
    assert read.edit == ("edges.csv", 1, 0) and read.connectome.layers["recurrent"][pre, post]


@pytest.mark.slow
def test_the_policy_computes_with_what_was_edited(exported, bundle):
    """Second path: the run's own policy, whose output layer is cut in its parameters."""
    cut_in_edges(bundle, "output,")
    policy = evoconn_cli.load_bundle(bundle).policy()
    carry, action = policy.step(policy.initial_carry(jax.random.key(0)), np.array([1.0, -0.5]))
    assert action == 0.0
    whole = evoconn_cli.load_run(exported / "run").policy()
    other, moved = whole.step(whole.initial_carry(jax.random.key(0)), np.array([1.0, -0.5]))
    np.testing.assert_array_equal(carry.spikes, other.spikes)
    assert moved != 0.0


def test_the_same_edit_in_two_forms_is_one(bundle):
    edit_layers(bundle, "recurrent", silence, packed=False)
    edit_sparse(bundle, "recurrent", silence)
    assert read_bundle(bundle).edit.form == "kernels.npz and csr"


def test_a_form_that_was_only_saved_again_contradicts_nothing(bundle):
    removed = cut_in_edges(bundle, "recurrent,n5,")
    edit_layers(bundle, "recurrent", lambda layer: None, packed=False)
    assert read_bundle(bundle).edit == ("edges.csv", 0, removed)


def test_another_layout_of_the_same_connections_is_no_edit(bundle):
    lines = (bundle / "edges.csv").read_text().splitlines()
    short = [",".join(line.split(",")[:3]) for line in [lines[0], *reversed(lines[1:])]]
    (bundle / "edges.csv").write_text("\n".join(short))
    assert read_bundle(bundle).edit is None


def contradict(bundle: Path) -> None:
    cut_in_edges(bundle, "input,x0+,")
    edit_layers(bundle, "recurrent", silence, packed=True)


def change_all(bundle: Path) -> None:
    cut_in_edges(bundle, "recurrent,n5,")
    edit_layers(bundle, "recurrent", silence, packed=True)
    edit_sparse(bundle, "recurrent", silence)


def shorten(bundle: Path) -> None:
    with np.load(bundle / "kernels.npz") as arrays:
        found = dict(arrays)
    np.savez(bundle / "kernels.npz", **{**found, "input": np.ones((3, 40), bool)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (contradict, r"kernels\.npz and edges\.csv were both edited, and contradict each other"),
        (change_all, "all changed.*the exported connections are unknown"),
        (shorten, r"kernels\.npz: input is bool \[3, 40\]\. Expected: bool \[4, 40\]"),
        (lambda path: (path / "kernels.npz").write_bytes(b"bits"), r"kernels\.npz cannot be read"),
        (lambda path: (path / "csr" / "input.npz").unlink(), r"csr/input\.npz cannot be read: .*No such file"),
        (lambda path: cut_in_edges(path, "layer,"), r"edges\.csv: no column layer"),
        (
            lambda path: (path / "neurons.npz").write_bytes(b"types"),
            r"neurons\.npz was changed .* put neurons\.npz back",
        ),
        (lambda path: (path / "normalizer.npz").unlink(), r"normalizer\.npz was changed or is missing"),
        (lambda path: (path / "checksums.json").write_text("{}"), r"checksums\.json cannot be read"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(bundle, damage, message):
    damage(bundle)
    with pytest.raises(EvoconnError, match=message):
        read_bundle(bundle)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kernels.npz", "csr/input.npz"])
def test_a_damaged_file_is_an_error_that_names_it_or_an_edit(bundle, name):
    """Bytes of names, compressed data, sums and directory of the zip file, one after another."""
    content = (bundle / name).read_bytes()
    refused = 0
    for place in range(0, len(content), 14):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        (bundle / name).write_bytes(damaged)
        try:
            read_bundle(bundle)
        except EvoconnError as error:
            assert str(bundle / name) in str(error)
            refused += 1
    assert refused > 20


def test_a_sparse_matrix_of_another_size_is_refused_before_it_is_unpacked(bundle):
    scipy.sparse.save_npz(bundle / "csr" / "input.npz", scipy.sparse.csr_array((4, 10**12), dtype=bool))
    with pytest.raises(EvoconnError, match=r"csr/input\.npz is \[4, 1000000000000\]\. Expected: \[4, 40\]"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [("network", "num_glia", 3, "num_glia"), ("tracking", "project", "${oc.env:HOME}", "is a reference")],
)
def test_a_configuration_that_is_not_of_this_version_is_told_with_the_bundle(bundle, section, key, value, message):
    provenance = json.loads((bundle / "provenance.json").read_text())
    provenance["config"][section][key] = value
    (bundle / "provenance.json").write_text(json.dumps(provenance))
    write_checksums(bundle, HOLDS)
    with pytest.raises(EvoconnError, match=rf"bundle has a configuration that this version .*{message}"):
        read_bundle(bundle)


def test_a_line_that_says_something_else_is_named(bundle):
    with (bundle / "edges.csv").open("a") as file:
        file.write("recurrent,n5,n99,,,,,,\n")
    number = len((bundle / "edges.csv").read_text().splitlines())
    with pytest.raises(EvoconnError, match=rf"edges\.csv, line {number}: .*n99"):
        read_bundle(bundle)


def test_what_needs_a_run_is_refused(exported, bundle, evoconn):
    with pytest.raises(ConfigError, match="holds one network, and --step says best"):
        open_run(bundle, "best")
    with pytest.raises(EvoconnError, match="is not a bundle"):
        evoconn_cli.load_bundle(exported / "run")
    code, _, err = evoconn("export-connectivity", exported / "run", "--verify", "--format", "csv")
    assert code == 2 and "--verify replays bundle" in err
    code, _, err = evoconn("evaluate", bundle, "--episodes", "0", "--plot", bundle.with_name("curve.png"))
    assert code == 1 and "an exported bundle, which has no training" in err
    cut_in_edges(bundle, "input,")
    code, _, err = evoconn("evaluate", bundle, "--policy", "sampled", "--episodes", "2")
    assert code == 1 and "was edited" in err and "--policy deterministic" in err


@pytest.mark.parametrize("edited_first", [True, False])
def test_samples_of_an_edited_bundle_are_refused_beside_one_as_exported(exported, bundle, edited_first):
    cut_in_edges(bundle, "input,")
    opened = [open_run(path) for path in (bundle, exported / "deterministic")]
    runs = opened if edited_first else opened[::-1]
    with pytest.raises(EvoconnError, match=r"bundle was edited.*--policy deterministic"):
        list(evaluate(runs, [{}], num_episodes=2, seed=0, sampled=True))


def test_the_plot_of_a_sweep_lies_beside_a_bundle(bundle, evoconn, monkeypatch):
    monkeypatch.chdir(bundle)
    before = files_of(bundle)
    code, out, _ = evoconn("evaluate", ".", "--episodes", "2", "--perturb", "obs-noise=0,1")
    assert code == 0 and files_of(bundle) == before
    plot = bundle.with_name("bundle-obs-noise-sweep.png")
    assert plot.is_file() and f"curve: {plot}" in out


@pytest.mark.slow
def test_sampled_episodes_of_a_bundle_are_those_of_its_run(exported, bundle, evoconn):
    results = [
        json.loads(evoconn("evaluate", path, "--policy", "sampled", "--episodes", "4", "--json", "-")[1])
        for path in (exported / "run", bundle)
    ]
    assert results[0]["evaluations"][0]["return"] == results[1]["evaluations"][0]["return"]


def test_the_simulator_does_not_run_what_it_cannot_see(bundle):
    edit_layers(bundle, "output", lambda layer: layer.fill(False), packed=False)
    assert Network(bundle).step(np.zeros(2)) == 0.0
    cut_in_edges(bundle, "input,")
    with pytest.raises(ValueError, match=r"edges\.csv was changed"):
        Network(bundle)


@pytest.mark.slow
def test_an_edited_network_is_exported_again_with_an_episode_of_its_own(bundle, evoconn, tmp_path):
    cut_in_edges(bundle, "recurrent,")
    before = files_of(bundle)
    with pytest.raises(EvoconnError, match=r"edges\.csv"):
        verify_bundle(bundle)
    code, out, _ = evoconn("export-connectivity", bundle, "--out", tmp_path / "new", "--verify")
    assert code == 0 and files_of(bundle) == before and f"bundle: {tmp_path / 'new'}" in out and "verified: " in out
    code, _, err = evoconn("export-connectivity", tmp_path / "new", "--verify", "--step", "best", "--seed", "3")
    assert code == 2 and "--step and --seed would do nothing" in err
    assert evoconn("export-connectivity", tmp_path / "new", "--verify")[0] == 0
    again = read_bundle(tmp_path / "new")
    assert again.edit is None and not again.connectome.layers["recurrent"].any()
    assert (again.provenance["policy"], again.provenance["run"]) == ("edited", "run")
    assert str(again) == "bundle, edited before, as exported"
    assert again.provenance["edit"]["form"] == "edges.csv"
