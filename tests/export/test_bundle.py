"""Bundles: the simulator in NumPy computes what the engine computed, and notices everything that is not as recorded."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from saved_runs import save_run

from evoconn_cli.config.formats import ExportOptions
from evoconn_cli.errors import EvoconnError
from evoconn_cli.evaluation.exporting import make_source, open_steps
from evoconn_cli.export.bundle.document import write_checksums
from evoconn_cli.export.bundle.reading import read_bundle, verify_bundle
from evoconn_cli.export.bundle.writing import HOLDS, run_network, write_bundle
from evoconn_cli.export.connectome import ExportSource
from evoconn_cli.export.episode import record_episode

SPIKING = ("network.gain_in=0.5", "task.episode_length=40")
SETTINGS = {
    "plain": ("task.name=probe_sign",),
    # A step of spikes and long silence, in which rates and actions become smaller than any normal float32.
    "silent": (
        "task.name=probe_memory",
        "task.episode_length=150",
        "network.gain_in=0.05",
        "network.gain_recurrent=0.2",
        "network.gain_out=1",
    ),
    # Windows of the read-out sum are padded; constants that are no powers of two.
    "odd": (
        "network.num_neurons=75",
        "network.excitatory_ratio=0.8",
        "network.dt_ms=0.3",
        "network.v_rest=-0.1",
        "network.v_threshold=0.7",
    ),
    "settled": ("rollout.warmup_steps=3", "network.num_neurons=20"),
}


def source_of(path: Path, *overrides: str, policy: str = "deterministic", seed: int = 0) -> ExportSource:
    run = save_run(path, *SPIKING, *overrides, eval_fitness={3: 1.0})
    opened = open_steps(run, None, pytest.fail)
    return make_source(opened, policy=policy, seed=seed, max_steps=None, options=ExportOptions())


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A bundle and what it was made of."""
    folder = tmp_path_factory.mktemp("bundle")
    source = source_of(folder / "run")
    write_bundle(source, folder / "bundle")
    return source, folder / "bundle"


@pytest.fixture
def bundle(exported, tmp_path):
    """A copy of the bundle, to be damaged."""
    return Path(shutil.copytree(exported[1], tmp_path / "copy"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_currents_potentials_rates_and_actions_are_equal_to_the_last_bit(tmp_path, name):
    source = source_of(tmp_path / "run", *SETTINGS[name], policy="sampled" if name == "odd" else "deterministic")
    write_bundle(source, tmp_path / "bundle")
    episode = source.episode
    network = run_network.Network(tmp_path / "bundle")
    assert network.fused and network.exact_actions
    assert episode.spikes.sum() > 20 and episode.steps_as_trained == episode.num_steps
    if name == "silent":
        assert np.abs(episode.raw_actions[:48]).min() > 0 and not episode.raw_actions[60:].any()
    for step, observation in enumerate(episode.observations):
        action = network.step(observation)
        np.testing.assert_array_equal(network.x, episode.normalized[step])
        np.testing.assert_array_equal(network.i_in, episode.input_currents[step])
        np.testing.assert_array_equal(network.spikes, episode.spikes[step])
        np.testing.assert_array_equal(network.v, episode.states["v"][step])
        np.testing.assert_array_equal(network.i_syn, episode.states["i_syn"][step])
        np.testing.assert_array_equal(network.rate, episode.states["rate"][step])
        np.testing.assert_array_equal(network.raw_action, episode.raw_actions[step])
        np.testing.assert_array_equal(action, episode.actions[step])


def test_roundings_matter(exported):
    """Otherwise the test above would say little: rounded twice, potentials part from the recorded ones."""
    source, folder = exported
    network = run_network.Network(folder)
    network.fused = False
    with pytest.raises(ValueError, match="step 0, (synaptic current|membrane potential|rate)"):
        run_network.replay(network, source.episode.arrays())


def test_a_fused_multiply_add_rounds_once(exported):
    """Against sums of fractions; random operands, and one where a sum in float64 would round to the wrong side."""
    from fractions import Fraction

    network = run_network.Network(exported[1])
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=2000).astype(np.float32) * np.float32(2.0) ** rng.integers(-12, 12, 2000) for _ in "abc")
    a[0], b[0], c[0] = np.float32(1 + 2**-12), np.float32(1 + 2**-12), np.float32(2**-60)
    a[1], b[1], c[1] = np.float32(2**-24), np.float32(1 + 2**-23), np.float32(1)
    found = network.multiply_add(a.astype(np.float32), b.astype(np.float32), c.astype(np.float32))
    for x, y, z, got in zip(a, b, c, found, strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        below, above = (np.nextafter(got, np.float32(side)) for side in (-np.inf, np.inf))
        error = abs(Fraction(float(got)) - exact)
        assert error <= abs(Fraction(float(below)) - exact) and error <= abs(Fraction(float(above)) - exact)


def test_it_verifies_without_jax(exported):
    source, folder = exported
    said = verify_bundle(folder)
    assert said.startswith(f"{source.episode.spikes.sum()} spikes in 40 steps of 33 sub-steps: all as recorded")


def test_the_script_runs_from_within_the_bundle(exported):
    done = subprocess.run(
        [sys.executable, "run_network.py"], cwd=exported[1], capture_output=True, text=True, check=True
    )
    assert "all as recorded" in done.stdout


def test_the_simulator_needs_numpy_alone(bundle):
    script = bundle / "run_network.py"
    imported = [line.split()[1] for line in script.read_text().splitlines() if line.startswith(("import", "from"))]
    assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names == {"numpy"}


@pytest.mark.parametrize("name", sorted({*HOLDS, "checksums.json"}))
def test_a_flipped_bit_in_any_file_fails_and_the_file_is_named(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(EvoconnError, match=name) as error:
        verify_bundle(bundle)
    assert HOLDS.get(name, "") in str(error.value)
    if name != "run_network.py":
        done = subprocess.run([sys.executable, "run_network.py"], cwd=bundle, capture_output=True, text=True)
        assert done.returncode == 1 and name in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "array", "where", "message"),
    [
        ("kernels.npz", "input", (0, 0), r"step 0, input current \d+: "),
        ("kernels.npz", "recurrent", None, r"step \d+, sub-step \d+, neuron \d+: (a spike|none) was recorded"),
        ("kernels.npz", "output", None, r"step \d+, read-out 0: "),
        ("neurons.npz", "sign", 3, r"step \d+, sub-step \d+, neuron \d+: |step \d+, rate"),
        ("neurons.npz", "v", 0, r"step \d+, (sub-step \d+, neuron \d+|membrane potential 0)"),
        ("normalizer.npz", "mean", 1, "step 0, normalised observation 1: "),
        ("episode.npz", "observation", (7, 1), "step 7, normalised observation 1: "),
        ("episode.npz", "i_in", (7, 5), "step 7, input current 5: "),
        ("episode.npz", "spikes", (7, 20, 0), r"step 7, sub-step 20, neuron 7: (a spike|none) was recorded"),
        ("episode.npz", "v", (7, 5), "step 7, membrane potential 5: "),
        ("episode.npz", "i_syn", (7, 5), "step 7, synaptic current 5: "),
        ("episode.npz", "rate", (7, 5), "step 7, rate 5: "),
        ("episode.npz", "raw_action", (7, 0), "step 7, read-out 0: "),
        ("episode.npz", "action", (7, 0), "step 7, action 0: "),
    ],
)
def test_with_new_checksums_the_replay_finds_it(bundle, name, array, where, message):
    """Somebody who renews the checksums changes what is computed, or what it is compared with."""
    with np.load(bundle / name) as arrays:
        found = dict(arrays)
    values = found[array]
    if where is None:  # of a neuron that spikes and rates that are read out
        values ^= 0xFF
    elif values.dtype == np.float32:
        values[where] += np.float32(0.25)
    elif array == "sign":
        values[where] *= -1
    else:
        values[where] ^= 1
    np.savez(bundle / name, **found)
    write_checksums(bundle, HOLDS)
    with pytest.raises(EvoconnError, match=f"does not verify: not as recorded: ({message})"):
        verify_bundle(bundle)


@pytest.mark.parametrize("name, array", [("probabilities.npz", "recurrent"), ("normalizer.npz", "std")])
def test_a_bundle_of_a_run_that_had_diverged_does_not_verify_and_is_not_read(bundle, name, array):
    """Versions before this one could write them."""
    with np.load(bundle / name) as arrays:
        spoilt = dict(arrays)
    spoilt[array] = np.full_like(spoilt[array], np.nan)
    np.savez(bundle / name, **spoilt)
    write_checksums(bundle, HOLDS)
    for look in (verify_bundle, read_bundle):
        with pytest.raises(EvoconnError, match=rf"{name}: {array} holds numbers that are not finite"):
            look(bundle)


def test_a_foreign_script_is_not_run(bundle):
    """What is replayed is the data, by the simulator of this version: bundles of older ones go on verifying."""
    (bundle / "run_network.py").write_text("import pathlib; pathlib.Path('ran').touch(); print('all fine')")
    write_checksums(bundle, HOLDS)
    assert re.search("all as recorded.*the bundle has that of another", verify_bundle(bundle))
    assert not Path("ran").exists()
    with np.load(bundle / "episode.npz") as arrays:
        episode = dict(arrays)
    np.savez(bundle / "episode.npz", **{**episode, "rate": episode["rate"] + np.float32(1)})
    write_checksums(bundle, HOLDS)
    with pytest.raises(EvoconnError, match="not as recorded: step 0, rate"):
        verify_bundle(bundle)


def test_a_bundle_of_another_format_is_not_replayed(bundle):
    document = json.loads((bundle / "network.json").read_text())
    (bundle / "network.json").write_text(json.dumps({**document, "version": 3}))
    write_checksums(bundle, HOLDS)
    with pytest.raises(EvoconnError, match="a bundle of version 3; this version of evoconn reads 1 and 2"):
        verify_bundle(bundle)


def test_a_bundle_of_version_1_still_verifies_and_runs(bundle):
    old = {name: name_1 for name_1, name in run_network.NAMES_OF_VERSION_1.items()}
    kept = {"neurons.npz": {"v", "i_syn", "rate", "spikes"}, "episode.npz": {"spikes"}}
    for file, same in kept.items():
        with np.load(bundle / file) as arrays:
            renamed = {name if name in same else old[name]: arrays[name] for name in arrays}
        np.savez(bundle / file, **renamed)
    document = json.loads((bundle / "network.json").read_text())
    (bundle / "network.json").write_text(json.dumps({**document, "version": 1}))
    write_checksums(bundle, HOLDS)
    assert "all as recorded" in verify_bundle(bundle)
    assert read_bundle(bundle).edit is None
    with np.load(bundle / "episode.npz") as arrays:
        assert {"observations", "normalized", "input_currents", "potentials", "rates"} < set(arrays)


def test_a_file_that_may_not_be_read_is_an_error(bundle, monkeypatch):
    read = Path.read_bytes

    def refuse(path):
        if path.name == "nodes.csv":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(EvoconnError, match=r"nodes\.csv cannot be read: Permission denied"):
        verify_bundle(bundle)


def test_all_forms_hold_the_same_connections(exported):
    source, folder = exported
    with np.load(folder / "kernels.npz") as packed:
        for name, layer in source.connectome.layers.items():
            np.testing.assert_array_equal(np.unpackbits(packed[name], axis=1, count=layer.shape[1]), layer)
            np.testing.assert_array_equal(scipy.sparse.load_npz(folder / "csr" / f"{name}.npz").toarray(), layer)
    lines = (folder / "edges.csv").read_text().splitlines()
    assert len(lines) == 1 + sum(layer.sum() for layer in source.connectome.layers.values())


def test_constants_are_there_with_units_and_as_hex_floats(exported):
    source, folder = exported
    document = json.loads((folder / "network.json").read_text())
    for constant in document["constants"].values():
        assert float.fromhex(constant["hex"]) == constant["value"] and constant["unit"]
        assert np.float32(constant["value"]) == float.fromhex(constant["float32"])
    assert document["constants"]["gain_recurrent"]["value"] == source.connectome.gains.recurrent
    assert document["constants"]["tau_m"] == {"value": 10.0, "unit": "ms", **document["constants"]["tau_m"]}
    assert document["sizes"] == {
        "observations": 2, "inputs": 4, "neurons": 40, "excitatory": 20, "actions": 1, "substeps": 33,
    }  # fmt: skip
    provenance = json.loads((folder / "provenance.json").read_text())
    assert (provenance["run"], provenance["generation"], provenance["edit"]) == ("run", 3, None)
    assert provenance["config"]["network"]["num_neurons"] == 40 and provenance["versions"]["jax"]
    for name in [*HOLDS, "checksums.json"]:
        assert f"`{name}`" in (folder / "README.md").read_text()


def test_the_episode_is_the_first_of_an_evaluation(exported):
    """Second path: what `evoconn evaluate` plays with the same seed."""
    from evoconn_cli.evaluation.evaluating import evaluate

    source, folder = exported
    opened = open_steps(folder.parent / "run", None, pytest.fail)
    (result,) = evaluate(opened, [{}], num_episodes=2, seed=0, sampled=False)
    episode = source.episode
    assert result.results.lengths[0] == episode.num_steps
    np.testing.assert_allclose(result.results.returns[0], episode.rewards.sum(), rtol=1e-5)
    np.testing.assert_array_equal(result.results.spikes.emitted[0], episode.spikes.sum(axis=(0, 1)))


def test_read_outs_that_are_summed_otherwise_are_compared_to_a_hundred_thousandth(exported, tmp_path):
    source, _ = exported
    raw = np.nextafter(source.episode.raw_actions, np.float32(np.inf))
    moved = dataclasses.replace(source.episode, raw_actions=raw, actions=np.clip(raw, -1, 1))
    write_bundle(ExportSource(source.connectomes, lambda: moved, source.provenance), tmp_path / "bundle")
    assert not json.loads((tmp_path / "bundle" / "network.json").read_text())["arithmetic"]["exact_actions"]
    assert "to the last bit, and actions to 1e-5" in verify_bundle(tmp_path / "bundle")


def test_what_is_said_is_the_difference_of_the_arithmetic_that_got_furthest(exported, tmp_path):
    source, _ = exported
    states = source.episode.states
    rate = states["rate"].copy()
    rate[20:] += np.float32(1)
    raw = np.nextafter(source.episode.raw_actions, np.float32(np.inf))
    wrong = dataclasses.replace(source.episode, states=states | {"rate": rate}, raw_actions=raw)
    with pytest.raises(EvoconnError, match="step 20, rate 0"):
        write_bundle(ExportSource(source.connectomes, lambda: wrong, source.provenance), tmp_path / "bundle")


def test_actions_that_are_not_numbers_are_not_recorded(exported):
    opened = open_steps(exported[1].parent / "run", None, pytest.fail)[0]
    network = opened.network

    def record(params, carry, seen):
        carry, action, activity = network.record(params, carry, seen)
        return carry, action * np.nan, activity

    with pytest.raises(EvoconnError, match="not finite, in observations, actions or the reward"):
        record_episode(
            opened.task,
            dataclasses.replace(network, record=record),
            opened.policy_params("deterministic", seed=0),
        )


def test_what_numpy_cannot_replay_is_not_written(exported, tmp_path):
    source, _ = exported
    wrong = dataclasses.replace(source.episode, spikes=~source.episode.spikes)
    other = ExportSource(source.connectomes, lambda: wrong, source.provenance)
    with pytest.raises(EvoconnError, match="step 0, sub-step 0, neuron 0.*no bundle|no bundle.*step 0, sub-step 0"):
        write_bundle(other, tmp_path / "bundle")
