"""Going on with a run: from the latest checkpoint, from an older one, and from what is left of a damaged run."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest
from light_engine import make_light_engine
from typer.testing import CliRunner
from whole_runs import Listening, assert_same_run, comparable, resume_small, run_small

from evoconn_cli.app import app
from evoconn_cli.errors import CheckpointError, ConfigError, DamagedCheckpointError, RunDirectoryError
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.metrics import read_metrics
from evoconn_cli.runs.provenance import start_facts, what_changed
from evoconn_cli.training.checkpoint_facts import is_whole
from evoconn_cli.training.checkpoints import CheckpointStore
from evoconn_cli.training.opening import reopen_run

KEEP_ALL = ("checkpoint.keep_every=1", "checkpoint.every=1")


NESTED = "[" * 100_000


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A finished run of 6 generations, all of them saved, that is never touched."""
    path = tmp_path_factory.mktemp("runs") / "straight"
    assert run_small(path, *KEEP_ALL, make_engine=make_light_engine).finished
    return path


@pytest.fixture
def run(tmp_path, straight, light):
    """A copy of it."""
    shutil.copytree(straight, tmp_path / "run")
    return tmp_path / "run"


def saved(path):
    return sorted(int(entry.name) for entry in (path / "checkpoints").iterdir())


def generations(path):
    return [line["generation"] for line in read_metrics(path)]


def the_only(entries):
    (entry,) = entries
    return entry


def test_from_an_older_step_the_run_is_the_same_and_what_came_later_is_kept(run, straight, light):
    later = comparable(run)[2:]
    progress = Listening()
    assert resume_small(run, from_step=2, progress=progress).finished
    assert_same_run(straight, run, light)
    assert saved(run) == [1, 2, 3, 4, 5, 6]
    folder = the_only((run / "set-aside").iterdir())
    assert comparable(folder) == later
    assert saved(folder) == [3, 4, 5, 6]
    assert f"set aside in {folder}: 4 checkpoints and 4 lines of metrics" in progress.notes[0]


def test_what_was_set_aside_can_be_put_back(run, straight, light):
    resume_small(run, "algo.generations=3", from_step=2)
    folder = the_only((run / "set-aside").iterdir())
    (run / "checkpoints" / "3").rename(run.parent / "3")
    for checkpoint in (folder / "checkpoints").iterdir():
        checkpoint.rename(run / "checkpoints" / checkpoint.name)
    with (run / "metrics.jsonl").open("a") as file:
        file.write("".join((folder / "metrics.jsonl").read_text().splitlines(keepends=True)[1:]))
    assert resume_small(run, "algo.generations=6").finished
    assert_same_run(straight, run, light)


def test_going_back_twice_keeps_both(run):
    for _ in range(2):
        resume_small(run, from_step=5)
    assert [saved(folder) for folder in (run / "set-aside").iterdir()] == [[6], [6]]


def test_from_the_beginning(run, straight, light):
    assert resume_small(run, from_step=0).finished
    assert_same_run(straight, run, light)
    folder = the_only((run / "set-aside").iterdir())
    assert saved(folder) == generations(folder / "metrics.jsonl") == [1, 2, 3, 4, 5, 6]


def test_only_when_asked_what_came_later_is_deleted(run, straight, light):
    progress = Listening()
    assert resume_small(run, from_step=2, discard_later=True, progress=progress).finished
    assert_same_run(straight, run, light)
    assert not (run / "set-aside").exists()
    assert "discarded: 4 checkpoints and 4 lines" in progress.notes[0]


def test_the_latest_step_is_no_going_back(run):
    resume_small(run, "algo.generations=7", from_step=6)
    assert not (run / "set-aside").exists()
    assert generations(run / "metrics.jsonl") == [1, 2, 3, 4, 5, 6, 7]


def test_a_step_that_is_not_saved_is_refused_with_those_that_are(run):
    before = comparable(run)
    with pytest.raises(CheckpointError, match="generation 7 is not saved.*Saved: 1, 2, 3, 4, 5, 6; 0 is the beginning"):
        resume_small(run, "algo.generations=9", from_step=7)
    assert comparable(run) == before and saved(run) == [1, 2, 3, 4, 5, 6]


def test_a_damaged_step_that_was_asked_for_is_refused_and_nothing_is_moved(run):
    (run / "checkpoints" / "3" / "facts.json").unlink()
    with pytest.raises(DamagedCheckpointError, match="generation 3 .* is damaged"):
        resume_small(run, from_step=3)
    assert not (run / "set-aside").exists()


def test_fewer_generations_are_allowed_after_going_back(run):
    with pytest.raises(ConfigError, match="6 generations already"):
        reopen_run(run, ["algo.generations=4"])
    with pytest.raises(ConfigError, match="5 generations already"):
        reopen_run(run, ["algo.generations=4"], from_step=5)
    assert resume_small(run, "algo.generations=4", from_step=2).finished
    assert generations(run / "metrics.jsonl") == saved(run) == [1, 2, 3, 4]


@pytest.mark.parametrize("override", ["seed=1", "algo.learning_rate=0.3", "network.num_neurons=41", "engine.block=4"])
def test_what_shapes_a_run_cannot_be_changed_from_the_beginning_either(run, override):
    before = (run / "config.yaml").read_text()
    with pytest.raises(ConfigError, match=f"{override}: the run has "):
        reopen_run(run, [override], from_step=0)
    assert (run / "config.yaml").read_text() == before


def test_what_could_not_be_discarded_is_not_said_to_be(run, monkeypatch):
    def refuse(store, generation):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(CheckpointStore, "delete", refuse)
    with pytest.raises(RunDirectoryError, match="Permission denied"):
        resume_small(run, from_step=2, discard_later=True)


# Damage


def test_where_the_latest_is_damaged_the_one_before_is_taken_and_the_run_is_the_same(run, straight, light):
    for generation in (5, 6):
        (run / "checkpoints" / str(generation) / "state" / "manifest.ocdbt").write_bytes(b"")
    progress = Listening()
    assert resume_small(run, progress=progress).finished
    assert_same_run(straight, run, light)
    assert ["generation 6" in progress.notes[0], "generation 5" in progress.notes[1]] == [True, True]
    assert all("is damaged: state/manifest.ocdbt is cut off or changed" in note for note in progress.notes[:2])
    folder = the_only((run / "set-aside").iterdir())
    assert saved(folder) == generations(folder / "metrics.jsonl") == [5, 6]


@pytest.mark.slow
def test_where_all_are_damaged_the_run_stops_and_says_what_to_do(run, straight, light):
    for facts in run.glob("checkpoints/*/facts.json"):
        facts.write_text("{}")
    with pytest.raises(DamagedCheckpointError, match="--from-step 0"):
        resume_small(run)
    assert saved(run) == [1, 2, 3, 4, 5, 6]
    assert resume_small(run, from_step=0).finished
    assert_same_run(straight, run, light)


def test_a_configuration_edited_into_another_run_is_refused(run):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("learning_rate: 0.15", "learning_rate: 0.3"))
    with pytest.raises(CheckpointError, match=r"trained with algo.learning_rate=0.15, .* says algo.learning_rate=0.3"):
        resume_small(run)


def test_metrics_that_are_missing_are_said(run):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([lines[0], "garbage\n", *lines[3:]]))
    progress = Listening()
    resume_small(run, "algo.generations=7", progress=progress)
    assert generations(run / "metrics.jsonl") == [1, 4, 5, 6, 7]
    assert progress.notes == ["metrics.jsonl lacks 2 of the 6 generations done: lines were lost."]


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        '"x"',
        "3",
        "{}",
        '{"generation": "1"}',
        '{"generation": null}',
        '{"generation": true}',
        '{"generation": 3, "eval_fitness": "x"}',
        '{"generation": 3, "eval_fitness": [1]}',
        '{"generation": 3, "eval_fitness": true}',
        f'{{"generation": 3, "eval_fitness": {10**400}}}',
        "[" * 10**5,
    ],
    ids=lambda text: text[:20],
)
def test_lines_that_are_none_are_left_out(tmp_path, text):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(f'{{"generation": 1}}\n{text}\n{{"generation": 2, "a": 1e999, "b": NaN}}\n'.encode() + b"\xff")
    assert read_metrics(path) == [{"generation": 1}, {"generation": 2, "a": None, "b": None}]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "null", '{"resumed": 3}', '{"resumed": [3], "versions": 1}', "[" * 10**5]
)
def test_facts_that_are_none_do_not_keep_a_run_from_going_on(run, text):
    (run / "run.json").write_text(text)
    assert resume_small(run, "algo.generations=7").finished
    facts = json.loads((run / "run.json").read_text())
    assert facts["status"] == "finished" and len(facts["resumed"]) == 1


def test_each_start_is_recorded(run):
    resume_small(run, "algo.generations=7")
    resume_small(run, "algo.generations=8")
    facts = RunDirectory.open(run).read_facts()
    assert facts["status"] == "finished"
    assert [start.keys() >= {"command", "versions", "host", "pid"} for start in facts["resumed"]] == [True, True]


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is_at_once(run, monkeypatch):
    def files():
        return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    before = files()
    with monkeypatch.context() as patched:
        patched.setattr("evoconn_cli.commands.train.run_training", lambda *_, **__: pytest.fail("it is trained"))
        for arguments in ([], ["--generations", "6"], ["--devices", "1", "checkpoint.every=3"], ["--wandb", "offline"]):
            result = CliRunner().invoke(app, ["resume", str(run), *arguments])
            assert result.exit_code == 0, result.output
            assert "finished at generation 6" in result.output and "--generations 12" in result.output
        assert files() == before
        for arguments in (["--generations", "7"], ["tracking.tensorboard=true"], ["--from-step", "6"]):
            with pytest.raises(pytest.fail.Exception):
                CliRunner().invoke(app, ["resume", str(run), *arguments], catch_exceptions=False)
    (run / "checkpoints" / "6" / "state" / "manifest.ocdbt").write_bytes(b"")
    assert CliRunner().invoke(app, ["resume", str(run)]).exit_code == 0
    assert len(comparable(run)) == 6 and is_whole(run / "checkpoints" / "6"), "it is trained again"


# What may change the bits


def test_other_versions_and_devices_are_said(run):
    facts = RunDirectory.open(run).read_facts()
    versions = {**facts["versions"], "jax": "0.1.0"}
    RunDirectory.open(run).update_facts(versions=versions, devices="1 x NVIDIA H100")
    progress = Listening()
    resume_small(run, "algo.generations=7", progress=progress)
    assert "jax was 0.1.0 and is" in progress.notes[0] and "it ran on NVIDIA H100, now on cpu" in progress.notes[0]
    progress = Listening()
    resume_small(run, "algo.generations=8", progress=progress)
    assert progress.notes == []


def test_flags_that_change_how_xla_rounds_are_recorded_and_said(run, monkeypatch):
    """Those that evoconn sets itself, and those that say where to write, are not."""
    assert RunDirectory.open(run).read_facts()["arithmetic"] == {}
    flags = f"{os.environ['XLA_FLAGS']} --xla_dump_to=/tmp/a --xla_cpu_enable_fast_math=true"
    monkeypatch.setenv("XLA_FLAGS", flags)
    notes = []
    for generations in (7, 8):
        progress = Listening()
        resume_small(run, f"algo.generations={generations}", progress=progress)
        notes += progress.notes
    (note,) = notes
    assert (
        "were none and are XLA_FLAGS=--xla_cpu_enable_fast_math=true now" in note
        and "reproducible to the last bit" in note
    )
    starts = RunDirectory.open(run).read_facts()["resumed"]
    assert starts[-1]["arithmetic"] == {"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"}


def test_another_number_of_devices_is_no_change():
    assert what_changed(start_facts("1 x cpu"), start_facts("4 x cpu")) is None
    assert what_changed({}, start_facts("4 x cpu")) is None


def test_a_link_out_of_the_run_is_refused(run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (run / "checkpoints").rename(elsewhere)
    (run / "checkpoints").symlink_to(elsewhere)
    with pytest.raises(RunDirectoryError, match="checkpoints is a symbolic link"):
        resume_small(run, "algo.generations=7")
    assert sorted(entry.name for entry in elsewhere.iterdir()) == ["1", "2", "3", "4", "5", "6"]


def test_the_run_directory_itself_may_be_a_link(run, tmp_path):
    (tmp_path / "link").symlink_to(run)
    assert resume_small(tmp_path / "link", "algo.generations=7").finished
    assert saved(run)[-1] == 7


def test_a_start_that_is_refused_changes_nothing(run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match="is not saved"):
        resume_small(run, "algo.generations=9", from_step=8)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
