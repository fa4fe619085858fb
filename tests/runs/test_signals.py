"""Signals: a training ends after its generation, saves and says so; only by hand it can be quit at once."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from paths import LIGHT_EVOCONN, ROOT
from started import killed_after
from started import start as start_process
from typer.testing import CliRunner
from whole_runs import Listening, assert_same_run, evoconn, resume_small, run_small, wait_for_generation

from evoconn_cli.app import app
from evoconn_cli.commands.terminal import leave
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.metrics import read_metrics
from evoconn_cli.runs.signals import Interrupts, is_computing

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP]


def send(*numbers, at: int) -> Listening:
    """Returns a progress that sends signals to this process when a generation is done."""

    def at_generation(generation):
        if generation == at:
            for number in numbers:
                signal.raise_signal(number)

    return Listening(at_generation)


def status_of(path):
    return RunDirectory.open(path).read_facts()["status"]


def saved(path):
    return [int(entry.name) for entry in (path / "checkpoints").iterdir()]


@pytest.fixture
def straight(tmp_path, light):
    assert run_small(tmp_path / "straight").finished
    return tmp_path / "straight"


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("at", [3, 4])
def test_every_signal_ends_the_generation_saves_and_the_run_goes_on_exactly(straight, light, tmp_path, number, at):
    """A checkpoint is due at generation 4 and not at 3."""
    progress = send(number, at=at)
    outcome = run_small(tmp_path / "run", progress=progress)
    assert not outcome.finished and len(outcome.history) == at
    assert max(saved(tmp_path / "run")) == at
    assert status_of(tmp_path / "run") == "interrupted"
    assert len(progress.notes) == 1 and "finished and saved" in progress.notes[0]
    assert resume_small(tmp_path / "run").finished
    assert_same_run(straight, tmp_path / "run", light)


def test_many_signals_of_a_scheduler_are_one(light, tmp_path):
    progress = send(signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, at=3)
    assert not run_small(tmp_path / "run", progress=progress).finished
    assert max(saved(tmp_path / "run")) == 3
    assert len(progress.notes) == 1


@pytest.mark.parametrize("first", SIGNALS, ids=lambda number: number.name)
def test_ctrl_c_after_any_signal_quits_at_once(light, tmp_path, first):
    with pytest.raises(KeyboardInterrupt):
        run_small(tmp_path / "run", progress=send(first, signal.SIGINT, at=3))
    assert status_of(tmp_path / "run") == "quit"
    assert max(saved(tmp_path / "run")) == 2


@pytest.mark.parametrize("at, kept", [(1, "Nothing is saved yet"), (3, "The latest checkpoint is kept")])
def test_to_quit_at_once_is_exit_code_130(light, tmp_path, monkeypatch, at, kept):
    progress = send(signal.SIGTERM, signal.SIGINT, at=at)
    monkeypatch.setattr("evoconn_cli.progress.display.make_progress", lambda console: progress)
    arguments = ["train", "--config", "smoke", "--run-dir", str(tmp_path / "run"), "checkpoint.every=2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 130, result.output
    assert f"Quit. {kept}" in result.output and "evoconn resume" in result.output


def test_a_signal_in_the_last_generation_changes_nothing(light, tmp_path):
    assert run_small(tmp_path / "run", progress=send(signal.SIGTERM, at=6)).finished
    assert status_of(tmp_path / "run") == "finished"


def test_before_the_first_generation_ctrl_c_quits_and_the_others_end_it_in_order(light, tmp_path):
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupts.requested, "also where a library has swallowed it"
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        outcome = run_small(tmp_path / "run", interrupts=interrupts)
    assert not outcome.finished and outcome.history == []
    progress = Listening()
    with Interrupts() as interrupts:
        interrupts.notify = progress.note
        signal.raise_signal(signal.SIGUSR1)
    assert progress.notes == ["SIGUSR1: the run ends before training; Ctrl-C to quit at once."]
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert resume_small(tmp_path / "run").finished


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_does_not_wait_for_the_compiler(light, tmp_path, monkeypatch, number):
    may_end = threading.Event()

    def make_engine(config, workers):
        engine = light(config, workers)

        def compile_long(state):
            signal.raise_signal(number)
            assert may_end.wait(60)

        engine.compile = compile_long
        return engine

    ended = []
    monkeypatch.setattr("os._exit", ended.append)
    try:
        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):
                run_small(tmp_path / "run", make_engine=make_engine)
        else:
            outcome = run_small(tmp_path / "run", make_engine=make_engine)
            assert not outcome.finished and outcome.history == []
        leave(75)
        assert ended == [75], "the interpreter is not taken down while XLA compiles"
    finally:
        may_end.set()
    while is_computing():
        threading.Event().wait(0.01)
    leave(75)
    assert ended == [75]


def test_an_error_of_the_compiler_is_raised_where_the_training_waits(light, tmp_path):
    def make_engine(config, workers):
        engine = light(config, workers)
        engine.compile = lambda state: 1 // 0
        return engine

    with pytest.raises(ZeroDivisionError):
        run_small(tmp_path / "run", make_engine=make_engine)


def test_signals_are_given_back(light, tmp_path):
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupts() as interrupts:
        run_small(tmp_path / "run", interrupts=interrupts)
        assert signal.getsignal(signal.SIGTERM) not in before, "the outer context is still open"
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGHUP)
            assert not interrupts.requested
    finally:
        signal.signal(signal.SIGHUP, before)


# The program itself: exit codes, and terminals that go away


def start(tmp_path, *arguments, **kwargs):
    return evoconn("train", "--config", "smoke", "--run-dir", "run", *arguments, cwd=tmp_path, light=True, **kwargs)


ENDLESS = ("--generations", "1000000", "checkpoint.every=1000000")


@pytest.mark.slow
def test_sigterm_exits_with_75_and_says_how_to_resume(tmp_path):
    process = start(tmp_path, *ENDLESS)
    wait_for_generation(process, 1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert "SIGTERM: this generation is finished and saved" in output
    assert output.endswith("To resume: evoconn resume run\n")
    assert max(saved(tmp_path / "run")) == len(read_metrics(tmp_path / "run" / "metrics.jsonl"))


TAKE_TERMINAL = """
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
os.execv(sys.executable, sys.argv[1:])
"""


@pytest.mark.slow
def test_a_terminal_that_is_closed_ends_the_run_saved(tmp_path):
    ours, theirs = pty.openpty()
    program = LIGHT_EVOCONN
    arguments = ["train", "--config", "smoke", "--run-dir", "run", *ENDLESS]
    process = start_process(
        [sys.executable, "-c", TAKE_TERMINAL, *program, *arguments],
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    with killed_after(process):
        while not read_metrics(tmp_path / "run" / "metrics.jsonl"):
            os.read(ours, 4096)  # until the display is redrawn; an error once the process has ended
    os.close(ours)
    assert process.wait(timeout=60) == 75
    assert saved(tmp_path / "run") and status_of(tmp_path / "run") == "interrupted"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("code", "is_error"), [(0, False), (75, False), (130, False), (1, True)])
def test_make_train_takes_what_ctrl_c_ends_for_no_error(tmp_path, code, is_error):
    for name, text in {"evoconn": f"exit {code}", "python": "exit 1"}.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "installed").touch()
    root = ROOT
    done = subprocess.run(["make", "train", f"VENV={tmp_path}"], cwd=root, capture_output=True, text=True)
    assert (done.returncode != 0) == is_error == ("***" in done.stderr), done.stderr
    assert ("What to type next" in done.stdout) != is_error


@pytest.mark.slow
def test_a_reader_that_goes_away_does_not_end_the_run(tmp_path):
    process = start(tmp_path, "--generations", "3000", "checkpoint.every=1000000")
    wait_for_generation(process, 1)
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert max(saved(tmp_path / "run")) == 3000
