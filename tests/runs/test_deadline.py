"""`--max-time`: a training ends saved before its time is over."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from light_engine import make_light_engine
from typer.testing import CliRunner
from whole_runs import Listening, assert_same_run, resume_small, run_small

from evoconn_cli.app import app
from evoconn_cli.config.launch import parse_duration
from evoconn_cli.errors import ConfigError, TrainingError
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.ending import Ending
from evoconn_cli.runs.signals import PROCESS_STARTED, Deadline
from evoconn_cli.training import loop
from evoconn_cli.training import train as training


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("3h50m", 13800),
        ("90m", 5400),
        ("45s", 45),
        ("2d", 172800),
        ("1d12h", 129600),
        ("1h 30m 5s", 5405),
        ("3H50M", 13800),
        ("3:50:00", 13800),
        ("1-12:00:00", 129600),
    ],
)
def test_times_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0h", "3", "-3h", "3.5h", "m", "50m3h", "3:50", "1h30", "inf", "nan", "1:2:3"]
)
def test_what_is_no_time_is_said(text):
    with pytest.raises(ConfigError, match="3h50m"):
        parse_duration(text)


@given(st.text())
def test_any_text_is_a_time_or_an_error(text):
    try:
        assert parse_duration(text) > 0
    except ConfigError:
        pass


def test_the_longest_recent_generation_and_a_save_have_to_fit():
    now = [100.0]
    deadline = Deadline(1000.0, started=0.0, clock=lambda: now[0])
    deadline.save_took(20.0)
    deadline.generation_took(300.0)
    for _ in range(19):
        deadline.generation_took(10.0)
    now[0] = 680.0
    assert not deadline.is_near()
    now[0] = 680.1
    assert deadline.is_near()
    deadline.generation_took(10.0)  # the long one is not recent any more
    assert not deadline.is_near()
    now[0] = 970.1
    assert deadline.is_near()


def test_before_a_save_was_measured_it_is_given_time():
    assert Deadline(1000.0, started=0.0, clock=lambda: 996.0).is_near()
    assert not Deadline(1000.0, started=0.0, clock=lambda: 990.0).is_near()


def test_no_limit_is_never_near():
    assert not Deadline(None, started=0.0, clock=lambda: 1e30).is_near()


class Now:
    """A clock, of which every generation takes ten seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def make_engine(self, config, workers):
        engine = make_light_engine(config, workers)
        step = engine.compile(None)

        def slow_step(state):
            self.seconds += 10.0
            return step(state)

        engine.compile = lambda state: slow_step
        return engine


@pytest.fixture
def now(monkeypatch):
    now = Now()
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=now))
    return now


@pytest.mark.parametrize(("minutes", "saved"), [(0.5, [1, 3, 4, 6, 9, 10]), (0.6, [1, 4, 8, 10]), (1000, [4, 10])])
def test_long_generations_are_saved_by_the_clock(now, tmp_path, minutes, saved):
    """With each checkpoint comes the best network by then, if it is a better one: that of generation 1, then 4."""
    keys = ["algo.generations=10", "checkpoint.every=50", "checkpoint.keep_every=1", f"checkpoint.minutes={minutes}"]
    run_small(tmp_path / "run", *keys, make_engine=now.make_engine)
    assert sorted(int(entry.name) for entry in (tmp_path / "run" / "checkpoints").iterdir()) == saved


def test_a_run_ends_saved_before_its_time_is_over_and_goes_on_exactly(now, light, tmp_path):
    progress = Listening()
    deadline = Deadline(36.0, started=0.0, clock=now)
    outcome = run_small(tmp_path / "run", progress=progress, deadline=deadline, make_engine=now.make_engine)
    assert not outcome.finished
    assert len(outcome.history) == 3, "a fourth one would have lasted until 40 s"
    assert any("--max-time" in note for note in progress.notes)
    assert (tmp_path / "run" / "checkpoints" / "3").is_dir()
    assert RunDirectory.open(tmp_path / "run").read_facts()["status"] == "interrupted"
    run_small(tmp_path / "straight")
    assert resume_small(tmp_path / "run").finished
    assert_same_run(tmp_path / "straight", tmp_path / "run", light)


def test_a_time_that_ends_before_the_first_generation_is_an_error_and_not_an_endless_loop(light, tmp_path):
    """Exit code 75 would have a scheduler start it again and again."""
    with pytest.raises(TrainingError, match="before the first generation"):
        run_small(tmp_path / "run", deadline=Deadline(10.0, started=0.0, clock=lambda: 11.0))


def test_a_finished_run_needs_no_time(light, tmp_path):
    run_small(tmp_path / "run")
    assert resume_small(tmp_path / "run", deadline=Deadline(10.0, started=0.0, clock=lambda: 11.0)).finished


def test_the_option_counts_from_the_start_of_the_program_and_ends_it_with_75(tmp_path, monkeypatch):
    given = {}

    def train(*arguments, deadline, **more):
        given["end"] = deadline.end
        return training.Outcome([], Ending("--max-time", "the time is nearly over"), None)

    monkeypatch.setattr(training, "train", train)
    arguments = ["train", "--config", "smoke", "--run-dir", str(tmp_path / "run"), "--max-time", "3h50m"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 75, result.output
    assert given["end"] == PROCESS_STARTED + 13800
    assert "To resume: evoconn resume" in result.output
