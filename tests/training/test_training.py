"""Whole runs: straight, resumed, interrupted, killed. On a probe task, where a generation takes milliseconds."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from light_engine import make_light_engine
from whole_runs import SMALL, assert_same_run, comparable, evoconn, quiet, resume_small, run_small

from evoconn_cli import errors
from evoconn_cli.config.loading import load_config
from evoconn_cli.engine.build import build_engine
from evoconn_cli.errors import CheckpointError, ConfigError, DeviceMemoryError, EvoconnError, TrainingError
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.metrics import read_metrics
from evoconn_cli.training.checkpoints import CheckpointStore
from evoconn_cli.training.loop import speed_advice
from evoconn_cli.training.opening import create_run, reopen_run
from evoconn_cli.training.train import train

DOCUMENTED_KEYS = set(
    """generation fitness_mean fitness_std fitness_best eval_fitness env_steps env_steps_simulated episode_length_mean
    seconds elapsed spikes_per_ms density entropy saturated update_snr failed_members""".split()
)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "straight"
    outcome = run_small(path)
    assert outcome.finished
    return path


def test_a_run_leaves_what_is_documented(straight):
    assert {path.name for path in straight.iterdir()} == {"config.yaml", "run.json", "metrics.jsonl", "checkpoints"}
    facts = json.loads((straight / "run.json").read_text())
    assert facts["status"] == "finished"
    assert {"command", "versions", "devices", "kernel", "git_commit", "wandb_id"} <= facts.keys()
    lines = read_metrics(straight / "metrics.jsonl")
    assert [line["generation"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(DOCUMENTED_KEYS <= line.keys() for line in lines)
    assert all(line["env_steps"] == 40 * 8 * line["generation"] for line in lines)
    assert all(line["elapsed"] >= line["seconds"] > 0 for line in lines)


@pytest.mark.slow
def test_a_resumed_run_equals_a_straight_one(straight, tmp_path):
    run_small(tmp_path / "run", "algo.generations=2")
    outcome = resume_small(tmp_path / "run", "algo.generations=6")
    assert outcome.finished
    assert_same_run(straight, tmp_path / "run")
    elapsed = [line["elapsed"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert elapsed == sorted(elapsed)


@pytest.mark.slow
def test_a_run_resumed_on_other_devices_equals_a_straight_one(straight, tmp_path):
    run_small(tmp_path / "run", "algo.generations=4", "engine.devices=1")
    resume_small(tmp_path / "run", "algo.generations=6", "engine.devices=3")
    assert_same_run(straight, tmp_path / "run")
    resume_small(tmp_path / "run", "engine.devices=2", from_step=4)
    assert_same_run(straight, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("network", ["dense_snn", "gru", "lstm", "mlp"])
def test_es_runs_too_resume_exactly_on_other_devices(tmp_path, network):
    overrides = ["algo.name=es", f"network.name={network}"]
    run_small(tmp_path / "straight", *overrides, "algo.generations=4", "engine.devices=1")
    run_small(tmp_path / "run", *overrides, "algo.generations=2", "engine.devices=3")
    resume_small(tmp_path / "run", "algo.generations=4", "engine.devices=2")
    assert_same_run(tmp_path / "straight", tmp_path / "run")
    last = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    assert DOCUMENTED_KEYS | {"sigma", "center_norm"} <= last.keys()
    assert last["density"] is None and (last["spikes_per_ms"] is None) == (network != "dense_snn")


@pytest.mark.slow
def test_metrics_past_the_checkpoint_are_not_repeated(straight, tmp_path):
    run_small(tmp_path / "run", "algo.generations=2")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"generation": 3, "from": "a process that was killed before it saved"}\n{"gener')
    resume_small(tmp_path / "run", "algo.generations=6")
    assert_same_run(straight, tmp_path / "run")


def test_a_finished_run_is_not_trained_further_unless_asked(straight):
    before = comparable(straight)
    assert resume_small(straight).finished
    assert comparable(straight) == before


def test_fewer_generations_than_done_are_refused(straight):
    with pytest.raises(ConfigError, match="6 generations already"):
        reopen_run(straight, ["algo.generations=3"])
    assert RunDirectory.open(straight).read_config().algo.generations == 6


@pytest.mark.slow
def test_the_store_keeps_the_latest_the_best_and_each_so_many(tmp_path):
    run_small(
        tmp_path / "run",
        "algo.generations=12",
        "checkpoint.every=1",
        "checkpoint.keep_last=2",
        "checkpoint.keep_every=5",
    )
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    best = max(lines, key=lambda line: (line["eval_fitness"], line["generation"]))["generation"]
    kept = CheckpointStore(tmp_path / "run" / "checkpoints").generations()
    assert set(kept) == {11, 12, 5, 10, best}


def test_a_checkpoint_of_another_network_is_refused(straight, tmp_path):
    other = load_config("smoke", [*SMALL, "network.num_neurons=41"])
    run = create_run(other, tmp_path / "run")
    store = CheckpointStore(straight / "checkpoints")
    like = build_engine(run.config, run.workers).initial_state()
    with pytest.raises(
        CheckpointError,
        match=r"another configuration: strategy.adam.mu.input is float32 \[4, 40\], this run has float32 \[4, 41\]",
    ):
        store.restore(6, like, jax.devices()[0])


def test_more_devices_than_there_are_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(ConfigError, match="Set at most"):
        create_run(load_config("smoke", ["engine.devices=99"]), tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("Unable to initialize backend 'cuda': no device.\nAnd more."), "Unable .* 'cuda': no device"),
        (AssertionError(), "it finds no device for JAX_PLATFORMS=cpu"),
    ],
)
def test_a_platform_that_does_not_start_is_an_error_and_leaves_nothing(tmp_path, monkeypatch, error, reason):
    def refuse():
        raise error

    monkeypatch.setattr(jax, "local_devices", refuse)
    with pytest.raises(ConfigError, match=f"JAX does not start: {reason}. Check"):
        create_run(load_config("smoke"), tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_whose_members_all_fail_stops_and_says_so(tmp_path):
    # A network whose output is always positive: every member's reward is NaN.
    with pytest.raises(TrainingError, match="generation 1: .*, and nothing is saved yet"):
        run_small(
            tmp_path / "run",
            "task.name=probe_nan",
            "network.excitatory_ratio=1.0",
            "network.gain_in=5.0",
        )
    assert RunDirectory.open(tmp_path / "run").read_facts()["status"] == "failed"


def diverging(make_engine, generation, array, value):
    """An engine of which `array` of the state is not finite after a generation."""

    def make(config, workers):
        engine = make_engine(config, workers)
        step = engine.compile(None)

        def spoil(state):
            new, metrics = step(state)
            if int(new.generation) == generation:
                spoilt = getattr(new, array)
                leaves, structure = jax.tree.flatten(spoilt)
                leaves[0] = np.asarray(leaves[0]) * np.float32(value)
                new = new._replace(**{array: jax.tree.unflatten(structure, leaves)})
            return new, metrics

        return SimpleNamespace(**{**vars(engine), "compile": lambda state: spoil})

    return make


@pytest.mark.parametrize("array, value", [("strategy", np.nan), ("strategy", np.inf), ("normalizer", np.nan)])
@pytest.mark.parametrize("every, kept", [(2, "generation 4 is kept"), (50, "nothing is saved yet")])
def test_a_run_that_diverges_stops_with_the_generation_and_the_last_good_checkpoint(
    tmp_path, array, value, every, kept
):
    engine = diverging(make_light_engine, 5, array, value)
    with pytest.raises(TrainingError, match=rf"after generation 5, {array}\.\S+ holds? numbers .*, and .*{kept}"):
        run_small(tmp_path / "run", f"checkpoint.every={every}", "algo.generations=8", make_engine=engine)
    run = RunDirectory.open(tmp_path / "run")
    assert run.read_facts()["status"] == "failed"
    assert run.last_saved_generation() == (4 if every == 2 else 0)


def test_a_device_without_enough_memory_is_an_error_with_a_remedy(tmp_path):
    def make_engine(config, workers):
        engine = make_light_engine(config, workers)
        step = engine.compile(None)

        def exhausted(state):
            if int(state.generation) == 3:
                raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")
            return step(state)

        return SimpleNamespace(**{**vars(engine), "compile": lambda state: exhausted})

    with pytest.raises(DeviceMemoryError, match="for blocks of 8 members. Start a new run with engine.block=4"):
        run_small(tmp_path / "run", make_engine=make_engine)
    assert RunDirectory.open(tmp_path / "run").last_saved_generation() == 2


@pytest.mark.parametrize("start, seconds, words", [(0, 0.1, None), (0, 60.0, "d "), (990, 60.0, None)])
def test_a_long_run_on_a_cpu_is_announced(straight, start, seconds, words):
    config = load_config("paper", ["task.name=humanoid"])
    workers = reopen_run(straight, []).workers
    advice = speed_advice(config, workers, start, seconds)
    assert advice is None if words is None else words in str(advice) and "--config laptop" in str(advice)


@pytest.mark.slow
def test_switches_of_jax_in_the_environment_do_not_change_a_run(straight, tmp_path):
    switches = {"JAX_ENABLE_X64": "1", "JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_THREEFRY_PARTITIONABLE": "0"}
    arguments = ["train", "--config", "smoke", *SMALL, "algo.generations=6", "--run-dir", "run"]
    process = evoconn(*arguments, cwd=tmp_path, env={**os.environ, **switches})
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert_same_run(straight, tmp_path / "run")


@pytest.mark.slow
def test_humanoid_trains_and_resumes(tmp_path):
    """`evoconn train --task humanoid --algo ec --population 64`, shortened, and its resumption."""
    path = tmp_path / "run"
    overrides = ["task.name=humanoid", "algo.population=64", "algo.evaluation_copies=8", "task.episode_length=40"]
    config = load_config(None, [*overrides, "algo.generations=2", "tracking.wandb=disabled"])
    assert train(create_run(config, path), quiet()).finished
    assert resume_small(path, "algo.generations=3").finished
    assert [line["generation"] for line in read_metrics(path / "metrics.jsonl")] == [1, 2, 3]


@pytest.mark.slow
def test_an_error_of_the_program_is_a_message_and_no_traceback(tmp_path):
    """More of them are in test_error_messages.py."""
    process = evoconn("resume", "nothing", cwd=tmp_path)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert output.startswith("Error: ") and "no such directory" in output and "Traceback" not in output
    assert not list(tmp_path.iterdir())


def test_every_error_is_an_evoconn_error_with_an_exit_code_of_failure():
    found = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, Exception)]
    assert len(found) > 5
    for error in found:
        assert issubclass(error, EvoconnError) and error.exit_code not in (0, 75, 130)
