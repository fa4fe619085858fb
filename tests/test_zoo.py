"""The trained networks in zoo/, the names that they have, and the tool that adds them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from saved_runs import files_of, save_run

from evoconn_cli.api import load_bundle, load_run
from evoconn_cli.config.registry import zoo_dir, zoo_names
from evoconn_cli.errors import ConfigError, EvoconnError
from evoconn_cli.evaluation.opened import open_run
from evoconn_cli.export.bundle.reading import read_bundle, verify_bundle
from evoconn_cli.runs.listing import named_run
from tools import zoo

EPISODES = 8


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo_names())
def test_each_network_replays_and_has_the_return_of_its_record(name):
    record = zoo.read_records()[name]
    assert "spikes in" in verify_bundle(zoo_dir() / name)
    run = load_bundle(f"zoo:{name}")
    assert (run.config.task.name, run.config.seed, run.generation) == (
        record["task"],
        record["seed"],
        record["generation"],
    )
    stated, found = record["evaluation"], run.evaluate(EPISODES).summary
    # Four standard errors: other processors round otherwise, and then episodes are others of the same distribution.
    assert abs(found.mean - stated["mean"]) < 4 * stated["std"] / math.sqrt(EPISODES) + 0.01 * abs(stated["mean"])


def test_all_networks_together_stay_small_because_they_are_part_of_the_package():
    assert sum(file.stat().st_size for file in zoo_dir().rglob("*") if file.is_file()) < 3_000_000


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """A run, and the directory in a zoo that the tool has made of it."""
    folder = tmp_path_factory.mktemp("zoo")
    run = save_run(folder / "run", "task.episode_length=40", "network.gain_in=0.5")
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "zoo_dir", lambda: folder / "zoo")
        target = zoo.add("sign", run, "best", episodes=4, say=said.append)
        with pytest.raises(ConfigError, match="--force"):
            zoo.add("sign", run)
    assert said[0].startswith("verified: ") and "read-outs, to the last bit" in said[0]
    return run, target


@pytest.mark.slow
def test_a_compact_bundle_is_evaluated_as_the_run_that_it_comes_from(added):
    run, target = added
    record = json.loads((target / "zoo.json").read_text())
    assert sorted(files_of(target)) == sorted([*zoo.HOLDS, "checksums.json", "provenance.json", "zoo.json"])
    whole = load_run(run, "best")
    np.testing.assert_array_equal(load_run(target).evaluate(4).returns, whole.evaluate(4).returns)
    assert record["evaluation"]["mean"] == whole.evaluate(4).summary.mean
    assert (record["generation"], record["env_steps"], record["seconds"]) == (4, 4000, 8)
    assert record["curve"]["generation"] == [4], "later generations are not part of it"
    exact, rounded = whole.connectivity().probs, load_run(target).connectivity().probs
    for name, probs in exact.items():
        assert rounded[name].dtype == np.float32 and np.abs(rounded[name] - probs).max() < 0.003
        np.testing.assert_array_equal(rounded[name] > 0.5, probs > 0.5)


@pytest.mark.slow
def test_a_change_to_a_compact_bundle_is_refused(added, tmp_path):
    _, target = added
    for file in target.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    np.savez(tmp_path / "kernels.npz", **{name: ~bits for name, bits in np.load(target / "kernels.npz").items()})
    with pytest.raises(EvoconnError, match="a compact bundle, in which nothing can be edited.*export-connectivity"):
        read_bundle(tmp_path)


def test_probabilities_are_rounded_within_their_bounds_and_on_their_side_of_one_half():
    probs = np.array([0.0, 0.001, 0.0011, 0.49999, 0.5, np.nextafter(np.float32(0.5), 1), 0.9, 0.999], np.float32)
    rounded = zoo._rounded(probs).astype(np.float32)
    np.testing.assert_array_equal(rounded > 0.5, probs > 0.5)
    np.testing.assert_allclose(rounded, probs, atol=1 / 510 + 1e-4)
    np.testing.assert_allclose(rounded[[0, 1, 2, -1]], [0, 0.001, 0.001, 0.999], atol=3e-5)
    np.testing.assert_array_equal(rounded > 0, probs > 0)


def test_a_name_of_the_zoo_means_its_bundle_unless_there_is_a_file_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert named_run(Path("zoo:hopper")) == zoo_dir() / "hopper"
    with pytest.raises(ConfigError, match="unknown network of the zoo 'hoper'. Did you mean 'hopper'"):
        named_run(Path("zoo:hoper"))
    with pytest.raises(EvoconnError, match=r"no run at zoo/hopper.* Did you mean zoo:hopper\?"):
        open_run(Path("zoo/hopper"))
    (tmp_path / "zoo:hoper").mkdir()
    assert named_run(Path("zoo:hoper")) == Path("zoo:hoper")


def test_files_of_a_network_of_the_zoo_go_into_the_current_directory(added, tmp_path, monkeypatch):
    _, target = added
    monkeypatch.chdir(tmp_path)
    opened = open_run(target)
    assert opened.output_path("videos", "x.mp4") == target / "videos" / "x.mp4"
    assert opened.output_path(None, "x.png") == target.with_name("sign-x.png")
    monkeypatch.setattr("evoconn_cli.evaluation.opened.zoo_dir", lambda: target.parent)
    assert opened.output_path("videos", "x.mp4") == opened.output_path(None, "x.mp4") == Path("sign-x.mp4")
