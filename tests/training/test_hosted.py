"""Trainings within a Python program: `evoconn_cli.train` and `resume`, their callbacks, signals and settings of JAX."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from saved_runs import files_of
from whole_runs import SMALL, assert_same_run, resume_small, run_small

import evoconn_cli
from evoconn_cli.config.loading import load_config
from evoconn_cli.engine.devices import host_program
from evoconn_cli.errors import ConfigError, EvoconnError
from evoconn_cli.progress.display import Progress
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.metrics import read_metrics
from evoconn_cli.training.hosted import train_hosted
from evoconn_cli.training.opening import create_run

KEYS = {
    "task": {"episode_length": 8},
    "algo": {"population": np.int64(40), "evaluation_copies": 4, "generations": 6},
    "network": {"num_neurons": 40},
    "engine.block": 8,
    "checkpoint.every": 2,
}
"""`SMALL` as Python writes it."""


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "straight"
    assert run_small(path).finished
    return path


@pytest.mark.slow
def test_a_training_in_python_is_that_of_the_command_and_silent(evoconn, tmp_path, capsys):
    code, _, _ = evoconn("train", "--config", "smoke", *SMALL, "--generations", "6", "--run-dir", tmp_path / "command")
    lines, states = [], []

    def keep(metrics, state):
        lines.append(metrics)
        states.append(jax.device_get(state))

    capsys.readouterr()
    run = evoconn_cli.train("smoke", run_dir=tmp_path / "python", callbacks=[keep], progress=None, **KEYS)
    assert (code, *capsys.readouterr()) == (0, "", "")
    assert_same_run(tmp_path / "command", tmp_path / "python")
    assert (run.generation, run.status, run.config) == (6, "finished", load_config(str(run.path / "config.yaml")))
    assert run.metrics == lines and [int(state.generation) for state in states] == [1, 2, 3, 4, 5, 6]
    for ours, theirs in zip(jax.tree.leaves(states[-1]), jax.tree.leaves(run.state), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    halfway = evoconn_cli.load_run(run.path, step=4).state
    for ours, theirs in zip(jax.tree.leaves(states[3]), jax.tree.leaves(halfway), strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg="a copy was changed by the generations after it")


@pytest.mark.slow
def test_a_run_is_resumed_as_if_it_had_never_stopped_and_a_finished_one_is_left_alone(straight, tmp_path):
    whole = evoconn_cli.load_run(straight)
    begun = evoconn_cli.train(whole.config, algo={"generations": 3}, run_dir=tmp_path / "run", progress=None)
    assert begun.generation == 3
    run = evoconn_cli.resume(str(begun.path), generations=6, progress=None, checkpoint={"every": 1})
    assert (run.generation, run.status, run.config.checkpoint.every) == (6, "finished", 1)
    assert_same_run(straight, run.path)
    before = files_of(run.path)
    assert evoconn_cli.resume(run.path).generation == 6 and files_of(run.path) == before


OTHER_SETTINGS = {
    "jax_enable_x64": True,
    "jax_default_prng_impl": "rbg",
    "jax_random_seed_offset": 7,
    "jax_default_matmul_precision": "bfloat16",
    "jax_disable_most_optimizations": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_debug_nans": True,
    "jax_persistent_cache_min_compile_time_secs": 3.0,
}


@pytest.mark.slow
def test_the_settings_of_the_program_hold_before_during_and_after_and_change_nothing(straight, tmp_path, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")
    environment, seen, elsewhere = dict(os.environ), [], []
    asked, answered = threading.Event(), threading.Event()

    def settings():
        return {name: jax.config.values[name] for name in OTHER_SETTINGS if "cache" not in name}

    def other_thread():
        asked.wait(60)
        elsewhere.append((settings(), jnp.arange(2.0).dtype))
        answered.set()

    def look(metrics, state):
        seen.append((settings(), (jnp.arange(2.0) * 2.0).dtype))
        asked.set()
        answered.wait(60)

    thread = threading.Thread(target=other_thread)
    thread.start()
    before = dict(jax.config.values)
    try:
        for name, value in OTHER_SETTINGS.items():
            jax.config.update(name, value)
        host, now = settings(), dict(jax.config.values)
        evoconn_cli.train("smoke", run_dir=tmp_path / "run", callbacks=[look], progress=None, **KEYS)
        assert dict(jax.config.values) == now and dict(os.environ) == environment
    finally:
        for name in OTHER_SETTINGS:
            jax.config.update(name, before[name])
        asked.set()
        thread.join()
    assert seen == [(host, jnp.float64)] * 6
    per_process = ("jax_random_seed_offset", "jax_disable_most_optimizations")
    assert [elsewhere[0][0][name] for name in host if name not in per_process] == [
        value for name, value in host.items() if name not in per_process
    ]
    assert elsewhere[0][1] == jnp.float64
    assert_same_run(straight, tmp_path / "run")


def test_the_compilation_cache_of_a_training_is_closed_after_it(monkeypatch, tmp_path):
    from jax.experimental.compilation_cache import compilation_cache

    closed = []
    monkeypatch.setattr(compilation_cache, "reset_cache", lambda: closed.append(True))
    before = jax.config.values["jax_compilation_cache_dir"]
    with host_program():
        pass
    assert not closed
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        with host_program():
            jax.config.update("jax_compilation_cache_dir", str(tmp_path))
        assert jax.config.values["jax_compilation_cache_dir"] is None and closed
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.slow
def test_with_the_devices_that_jax_has_been_started_with(straight, tmp_path):
    code = (
        "import jax\n"
        "jax.config.update('jax_num_cpu_devices', 1)\n"
        "print(len(jax.devices()))\n"
        "import evoconn_cli\n"
        f"run = evoconn_cli.train('smoke', run_dir='run', progress='plain', **{KEYS})\n"
        "print(run.status, len(jax.devices()))\n"
    ).replace("np.int64(40)", "40")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *shown, last = done.stdout.splitlines()
    assert (first, last) == ("1", "finished 1")
    assert any(line.split() == ["devices", "1", "x", "cpu"] for line in shown)
    assert any(line.startswith("generation 6/6") for line in shown)
    assert RunDirectory.open(tmp_path / "run").read_facts()["command"] == "python -c"


# With an engine that need not be compiled


def hosted(path, *callbacks, generations=6):
    config = load_config("smoke", [*SMALL, f"algo.generations={generations}"])
    return train_hosted(lambda: create_run(config, path), callbacks, Progress())


def ended(path):
    directory = RunDirectory.open(path)
    lines = [line["generation"] for line in read_metrics(directory.metrics_file)]
    return directory.read_facts()["status"], directory.last_saved_generation(), lines


@pytest.mark.slow
@pytest.mark.parametrize("true", [True, np.bool_(True), jnp.array(True)], ids=["bool", "numpy", "jax"])
def test_a_callback_ends_the_training_which_is_saved_and_goes_on_exactly(light, tmp_path, true):
    run_small(tmp_path / "straight")
    called = []
    hosted(tmp_path / "run", lambda metrics, state: called.append(metrics) or true if metrics["generation"] == 3 else 1)
    assert ended(tmp_path / "run") == ("interrupted", 3, [1, 2, 3])
    assert len(called) == 1
    assert resume_small(tmp_path / "run").finished
    assert_same_run(tmp_path / "straight", tmp_path / "run", light)


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_an_exception_of_a_callback_is_raised_unchanged_after_the_run_is_saved(light, tmp_path, error):
    def fail(metrics, state):
        metrics.clear()  # a copy
        if int(state.generation) == 3:
            raise error

    with pytest.raises(type(error)) as raised:
        hosted(tmp_path / "run", fail)
    assert raised.value is error and raised.value.__context__ is None
    assert raised.traceback[-1].name == "fail"
    assert ended(tmp_path / "run") == ("interrupted", 3, [1, 2, 3])
    hosted(tmp_path / "next")


def test_only_one_training_runs_in_a_process(light, tmp_path):
    with pytest.raises(EvoconnError, match="another training runs in this process"):
        hosted(tmp_path / "run", lambda metrics, state: hosted(tmp_path / "other"))
    assert ended(tmp_path / "run") == ("interrupted", 1, [1])
    assert not (tmp_path / "other").exists()


def test_a_training_in_a_thread_leaves_the_signals_alone(light, tmp_path):
    handlers, found = [], []
    before = signal.getsignal(signal.SIGINT)
    look = [lambda metrics, state: handlers.append(signal.getsignal(signal.SIGINT))]
    thread = threading.Thread(target=lambda: found.append(hosted(tmp_path / "run", *look)))
    thread.start()
    thread.join()
    assert found and ended(tmp_path / "run")[0] == "finished"
    assert handlers == [before] * 6


def raise_at(generation, *numbers):
    def at(metrics, state):
        if metrics["generation"] == generation:
            for number in numbers:
                signal.raise_signal(number)

    return at


def test_ctrl_c_saves_before_it_interrupts(light, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt, match=r"saved at generation 3; evoconn_cli\.resume\('run'\) continues it"):
        hosted(tmp_path / "run", raise_at(3, signal.SIGINT))
    assert ended(tmp_path / "run") == ("interrupted", 3, [1, 2, 3])
    with pytest.raises(KeyboardInterrupt):
        hosted(tmp_path / "quit", raise_at(3, signal.SIGINT, signal.SIGINT))
    assert ended(tmp_path / "quit") == ("quit", 2, [1, 2, 3])


def test_another_signal_saves_before_the_handler_of_the_program_gets_it(light, tmp_path):
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append((number, ended(tmp_path / "run"))))
    try:
        hosted(tmp_path / "run", raise_at(3, signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [(signal.SIGTERM, ("interrupted", 3, [1, 2, 3]))]


# What is wrong


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ({"config": "lapto"}, ["--config", "lapto"]),
        ({"task": "hoper"}, ["--task", "hoper"]),
        ({"task": "hopper", "algo": "ex"}, ["--task", "hopper", "--algo", "ex"]),
        ({"task": "hopper", "algo": "ec", "network": "gru"}, ["--task", "hopper", "--algo", "ec", "--network", "gru"]),
        ({}, []),
        ({"config": "smoke", "algo": {"populaton": 4}}, ["--config", "smoke", "algo.populaton=4"]),
        ({"config": "smoke", "algo.populaton": 4}, ["--config", "smoke", "algo.populaton=4"]),
        ({"config": "smoke", "populations": 4}, ["--config", "smoke", "populations=4"]),
        ({"config": "smoke", "algo": {"population": 0}}, ["--config", "smoke", "algo.population=0"]),
        ({"config": "smoke", "algo": {"population": 0.5}}, ["--config", "smoke", "algo.population=0.5"]),
        ({"config": "smoke", "algo": {"population": None}}, ["--config", "smoke", "algo.population=null"]),
        ({"config": "smoke", "engine": {"kernel": "cuda"}}, ["--config", "smoke", "engine.kernel=cuda"]),
    ],
    ids=lambda given: " ".join(map(str, given)),
)
def test_what_is_wrong_is_told_as_by_the_command(evoconn, given, arguments):
    with pytest.raises(ConfigError) as raised:
        evoconn_cli.train(**given)
    code, _, told = evoconn("train", *arguments)
    assert (code, " ".join(told.split())) == (2, f"Error: {raised.value}")


def test_values_that_no_configuration_has_are_refused(straight, tmp_path):
    with pytest.raises(ConfigError, match=r"task\.name=<object"):
        evoconn_cli.train(task={"name": object()})
    with pytest.raises(ConfigError, match="is a reference"):
        evoconn_cli.train("smoke", tracking={"name": "${oc.env:HOME}"})
    with pytest.raises(ValueError, match="progress='none'"):
        evoconn_cli.train("smoke", run_dir=tmp_path / "run", progress="none")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=r"algo\.population=41: the run has algo\.population=40"):
        evoconn_cli.resume(straight, algo={"population": 41})
    with pytest.raises(EvoconnError, match="no such directory"):
        evoconn_cli.resume(tmp_path / "run")
    assert not (tmp_path / "run").exists()
