"""Runs that start from a connectome (`--init`): probabilities, what they inherit, errors, resuming without it."""

from __future__ import annotations

import functools
import json
import shutil

import jax
import numpy as np
import pytest
from omegaconf import OmegaConf
from saved_runs import save_run
from whole_runs import SMALL, assert_same_run, quiet, resume_small

import evoconn_cli
from evoconn_cli.api import load_run
from evoconn_cli.config.formats import ExportOptions
from evoconn_cli.config.loading import load_config
from evoconn_cli.engine.build import build_engine
from evoconn_cli.errors import ConfigError, RunDirectoryError
from evoconn_cli.evaluation.exporting import make_source, open_steps
from evoconn_cli.evaluation.starting import read_start
from evoconn_cli.export.bundle.writing import write_bundle
from evoconn_cli.runs.source import config_from, find_source
from evoconn_cli.training.opening import create_run, start_from_connectome
from evoconn_cli.training.train import train

FAST = [
    "algo.population=40",
    "algo.evaluation_copies=4",
    "algo.generations=4",
    "checkpoint.every=2",
    "engine.devices=1",
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run, and a bundle of its latest network."""
    folder = tmp_path_factory.mktemp("source")
    run = save_run(folder / "run", "algo.generations=99")
    opened = open_steps(run, None, pytest.fail)
    made = make_source(opened, policy="deterministic", seed=0, max_steps=4, options=ExportOptions())
    write_bundle(made, folder / "bundle")
    return folder


def start(path, at, *overrides):
    """Returns a new run in the directory `at` that starts from the network at `path`."""
    source = find_source(path)
    config = config_from(source, OmegaConf.create(), [*FAST, "engine.block=8", *overrides])
    return create_run(config, at, read_start=functools.partial(read_start, source))


def first_state(run):
    engine = build_engine(run.config, run.workers)
    return start_from_connectome(run, engine, engine.initial_state())


@pytest.mark.parametrize(
    ("given", "low", "high"),
    [([], 0.05, 0.95), (["algo.initial_certainty=0.5"], 0.25, 0.75), (["algo.initial_certainty=1"], 0.001, 0.999)],
)
def test_probabilities_start_near_the_connectome_and_observations_at_its_normaliser(source, tmp_path, given, low, high):
    run = start(source / "run", tmp_path / "run", *given)
    state, said = first_state(run)
    whole = load_run(source / "run")
    center, normalizer = whole.connectivity(), whole.state.normalizer
    for name in ("input", "recurrent", "output"):
        expected = np.where(getattr(center, name), np.float32(high), np.float32(low))
        np.testing.assert_allclose(np.asarray(state.strategy.probs[name]), expected, rtol=1e-6)
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(state.strategy.adam))
    for name in ("mean", "std", "count"):
        np.testing.assert_array_equal(getattr(state.normalizer, name), getattr(normalizer, name))
    np.testing.assert_allclose(state.normalizer.summed_variance, normalizer.std**2 * normalizer.count)
    assert said is not None and "run with algo.initial_certainty" in said
    assert run.config.algo.generations == 4, "options of the strategy are not inherited"


def test_a_bundle_is_the_same_start_as_its_run_and_the_run_records_it(source, tmp_path):
    runs = [start(source / name, tmp_path / name) for name in ("run", "bundle")]
    states = [first_state(run)[0] for run in runs]
    jax.tree.map(np.testing.assert_array_equal, *states)
    facts = [json.loads((run.directory.path / "run.json").read_text())["init"] for run in runs]
    assert facts[0]["sha256"] == facts[1]["sha256"] and facts[0]["sha256"].startswith(
        run_key := runs[0].config.algo.initial_connectome
    )
    assert (len(run_key), facts[1]["from"], facts[1]["task"], facts[1]["generation"]) == (12, "bundle", "probe_sign", 6)


def test_task_and_network_are_inherited_unless_the_command_line_has_others(source):
    found = find_source(source / "bundle")
    assert found.name == "bundle" and find_source("zoo:hopper").name == "zoo:hopper"
    base = OmegaConf.create({"task": {"name": "hopper"}, "network": {"name": "lstm"}, "algo": {"learning_rate": 0.3}})
    config = config_from(found, base, [])
    assert (config.task.name, config.task.episode_length, config.network.num_neurons) == ("probe_sign", 8, 40)
    assert (config.network.name, config.algo.learning_rate) == ("conn_snn", 0.3)
    config = config_from(found, base, ["task.name=probe_bias", "network.gain_in=0.3"])
    assert (config.task.name, config.task.episode_length, config.network.gain_in) == ("probe_bias", 1000, 0.3)


@pytest.mark.slow
def test_it_resumes_to_the_last_bit_without_the_source_also_from_the_beginning(source, tmp_path):
    shutil.copytree(source / "bundle", tmp_path / "given")
    straight, again = (start(tmp_path / "given", tmp_path / name) for name in ("straight", "again"))
    shutil.rmtree(tmp_path / "given")
    assert train(straight, quiet()).finished
    resume_small(tmp_path / "again", "algo.generations=2")
    resume_small(tmp_path / "again", "algo.generations=4")
    assert_same_run(tmp_path / "straight", tmp_path / "again")
    resume_small(tmp_path / "again", from_step=0)
    assert_same_run(tmp_path / "straight", tmp_path / "again")
    plain = create_run(load_config(None, ["task.name=probe_sign", *SMALL, *FAST]), tmp_path / "plain")
    assert train(plain, quiet()).finished
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "straight", tmp_path / "plain")


@pytest.mark.slow
def test_in_python(source, tmp_path):
    run = evoconn_cli.train(
        init=source / "bundle",
        algo={"population": 40, "evaluation_copies": 4, "generations": 1, "learning_rate": 1e-6},
        run_dir=tmp_path / "run",
        progress=None,
        **{"engine.block": 8, "engine.devices": 1},
    )
    before, after = load_run(source / "bundle").connectivity(), run.connectivity()
    assert all((getattr(after, name) == getattr(before, name)).all() for name in ("input", "recurrent", "output"))
    again = evoconn_cli.load_run(tmp_path / "run").config.algo
    assert again.initial_certainty == 0.9 and again.initial_connectome is not None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["algo.initial_certainty=0"], "loses the connectome.*Raise algo.initial_certainty"),
        (["algo.ec.initial_certainty=0"], "loses the connectome"),
        (["algo.initial_prob=0.2", "algo.initial_certainty=0.3"], "0.14 without a connection and 0.44 with one"),
        (["algo.name=es"], "algo.name=es is for real weights"),
        (["network.name=gru"], "network.name=gru is for real weights"),
        (["network.num_neurons=32"], r"40 neurons \(not 32\). Remedy: set network.num_neurons=40"),
        (["task.name=hopper"], r"2 observations \(not 11\), 1 actions \(not 3\). Remedy: choose a task with the sizes"),
        (
            ["algo.initial_connectome=abc"],
            "initial_connectome=abc: the run would start from the connectome [0-9a-f]{12}",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_directory_is_made(source, tmp_path, given, message):
    with pytest.raises(ConfigError, match=message):
        start(source / "bundle", tmp_path / "run", *given)
    assert not (tmp_path / "run").exists()


def test_real_weights_and_a_digest_without_init_are_refused(tmp_path):
    es = save_run(tmp_path / "es", "algo.name=es", "network.name=mlp", eval_fitness={1: 1.0})
    with pytest.raises(ConfigError, match="its network mlp has real weights"):
        find_source(es)
    config = load_config(None, ["task.name=probe_sign", "algo.initial_connectome=abc", *FAST])
    with pytest.raises(ConfigError, match="without a connectome. Give --init"):
        create_run(config, tmp_path / "run")


@pytest.mark.parametrize("harm", ["missing", "damaged", "another"])
def test_a_start_that_is_not_what_the_run_was_created_with_is_refused(source, tmp_path, harm):
    run, file = start(source / "run", tmp_path / "run"), tmp_path / "run" / "init.npz"
    if harm == "missing":
        file.unlink()
    elif harm == "damaged":
        file.write_bytes(file.read_bytes()[:200])
    else:
        arrays = dict(np.load(file))
        arrays["connections.output"] = ~arrays["connections.output"]
        np.savez(file, **arrays)
    with pytest.raises(RunDirectoryError, match="no checkpoint to resume from. Start it again with --init"):
        first_state(run)
