"""Run directories and their metrics.jsonl."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from evoconn_cli.config.loading import load_config
from evoconn_cli.errors import RunDirectoryError
from evoconn_cli.runs.directory import RunDirectory, default_run_dir, locate
from evoconn_cli.runs.metrics import MetricsFile, read_metrics
from evoconn_cli.runs.provenance import checkout_facts, start_facts
from evoconn_cli.training.opening import create_run


@pytest.fixture
def config():
    return load_config("smoke")


def test_a_run_directory_holds_its_configuration_and_facts(tmp_path, config):
    RunDirectory.create(tmp_path / "a" / "run", config, {"status": "created"})
    run = RunDirectory.open(tmp_path / "a" / "run")
    assert run.read_config() == config
    run.update_facts(status="finished", wandb_id="x")
    assert run.read_facts() == {"status": "finished", "wandb_id": "x"}
    assert sorted(path.name for path in run.path.iterdir()) == ["config.yaml", "run.json"]


def test_an_existing_run_is_never_overwritten(tmp_path, config):
    RunDirectory.create(tmp_path / "run", config, {"status": "mine"})
    with pytest.raises(RunDirectoryError, match="evoconn resume"):
        RunDirectory.create(tmp_path / "run", config, {})
    assert RunDirectory.open(tmp_path / "run").read_facts() == {"status": "mine"}


@pytest.mark.parametrize("what", ["file", "directory"])
def test_other_things_are_not_overwritten_either(tmp_path, config, what):
    path = tmp_path / "run"
    if what == "file":
        path.write_text("thesis")
    else:
        path.mkdir()
        (path / "thesis").touch()
    with pytest.raises(RunDirectoryError, match="not empty"):
        RunDirectory.create(path, config, {})


def test_an_empty_directory_may_become_a_run(tmp_path, config):
    (tmp_path / "run").mkdir()
    assert RunDirectory.create(tmp_path / "run", config, {}).read_config() == config


def test_the_directory_that_a_shell_is_in_may_become_a_run(tmp_path, config, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o2770)
    monkeypatch.chdir(tmp_path / "run")
    run = RunDirectory.create(Path(), config, {"status": "created"})
    assert run.short_path() == "." and Path("config.yaml").is_file()
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o2770
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_empty_directory_that_cannot_be_filled_stays_empty(tmp_path, config, monkeypatch):
    def refuse(file, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("evoconn_cli.runs.directory.replace_text", refuse)
    (tmp_path / "run").mkdir()
    with pytest.raises(RunDirectoryError, match="No space left"):
        RunDirectory.create(tmp_path / "run", config, {})
    assert not list((tmp_path / "run").iterdir())


def test_a_new_directory_has_the_mode_that_the_user_wants(tmp_path, config):
    before = os.umask(0o007)
    try:
        run = RunDirectory.create(tmp_path / "a" / "run", config, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o770


def test_a_current_directory_that_is_gone_has_a_path_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert RunDirectory(tmp_path / "run").short_path() == str(tmp_path / "run")


def test_a_directory_that_may_not_be_looked_at_is_said(tmp_path, config, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    for look in (RunDirectory.open, locate, lambda path: RunDirectory(path).check_new()):
        with pytest.raises(RunDirectoryError, match="cannot access .*: Permission denied"):
            look(tmp_path / "run")


def test_metrics_that_cannot_be_read_are_said(tmp_path):
    with pytest.raises(RunDirectoryError, match="cannot read"):
        read_metrics(tmp_path)


def test_a_file_in_the_way_leaves_nothing_behind(tmp_path, config):
    (tmp_path / "a").write_text("thesis")
    with pytest.raises(RunDirectoryError, match="is a file"):
        RunDirectory.create(tmp_path / "a" / "run", config, {})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_no_permission_is_said_before_anything_else(tmp_path, config, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(RunDirectoryError, match="no permission to write"):
        RunDirectory(tmp_path / "run").check_new()


def test_what_is_not_a_run_is_said(tmp_path):
    with pytest.raises(RunDirectoryError, match="no such directory"):
        RunDirectory.open(tmp_path / "nothing")
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        RunDirectory.open(tmp_path)


def test_a_run_that_is_not_there_is_looked_for_under_runs(tmp_path, config, monkeypatch):
    monkeypatch.chdir(tmp_path)
    RunDirectory.create(Path("runs/hopper"), config, {})
    for look in (RunDirectory.open, locate):
        with pytest.raises(RunDirectoryError, match=r"Did you mean runs/hopper\?"):
            look(Path("hopper"))
        with pytest.raises(RunDirectoryError, match="evoconn train"):
            look(Path("walker"))


def test_broken_facts_do_not_matter(tmp_path, config):
    run = RunDirectory.create(tmp_path / "run", config, {"status": "created"})
    run.facts_file.write_text("{")
    assert run.read_facts() == {}
    run.update_facts(status="running")
    assert run.read_facts() == {"status": "running"}


def test_default_directories_are_counted_by_what_is_trained(tmp_path, config, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_run_dir(config) == Path("runs/probe_sign-ec-001")
    for name in ("probe_sign-ec-002", "probe_sign-ec-009", "probe_sign-ec-010-copy", "probe_sign-es-gru-044"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert default_run_dir(config) == Path("runs/probe_sign-ec-010")
    gru = load_config("smoke", ["network.name=gru"])
    assert default_run_dir(gru) == Path("runs/probe_sign-es-gru-045")


def test_runs_that_start_at_once_get_different_directories(tmp_path, config, monkeypatch):
    """Another process takes the name between looking and creating."""
    monkeypatch.chdir(tmp_path)
    create, rivals = RunDirectory.create, [1, 2]

    def create_second(path, *facts):
        if rivals:
            rivals.pop()
            create(path, *facts)
        return create(path, *facts)

    monkeypatch.setattr(RunDirectory, "create", create_second)
    assert create_run(config, None).directory.path == tmp_path / "runs" / "probe_sign-ec-003"


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["/usr/bin/evoconn", "train", "--task", "ant"], "evoconn train --task ant"),
        (["/lib/evoconn_cli/__main__.py", "resume"], "evoconn resume"),
        (["/home/me/study.py", "3"], "python study.py 3"),
        ([""], "python"),
    ],
    ids=["command", "module", "script", "prompt"],
)
def test_facts_say_how_the_run_was_started(monkeypatch, words, command):
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    facts = start_facts("2 x cpu")
    assert facts["command"] == command
    assert facts["versions"]["brax"] == "0.1.2" and facts["slurm_job"] == "77"
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.parametrize("changed", [False, True])
def test_facts_say_whether_the_checkout_was_changed(tmp_path, monkeypatch, changed):
    module = tmp_path / "module.py"
    module.touch()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *arguments], check=True)
    if changed:
        module.write_text("# more")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "of another repository"))  # as in one of its hooks
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "of another commit"))
    os.utime(module, (1, 1))
    index = (tmp_path / ".git" / "index").read_bytes()
    facts = checkout_facts(tmp_path)
    assert (tmp_path / ".git" / "index").read_bytes() == index, "git status would note the other time of the file"
    assert len(facts["git_commit"]) == 40
    assert facts["git_dirty"] is changed


def test_metrics_are_one_line_a_generation_and_always_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.append({"generation": 1, "fitness_mean": 1.5})
    metrics.append({"generation": 2, "fitness_mean": float("nan")})
    assert path.read_text() == '{"generation": 1, "fitness_mean": 1.5}\n{"generation": 2, "fitness_mean": null}\n'
    metrics.close()


def test_metrics_past_the_checkpoint_and_cut_off_lines_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"generation": {g}}}\n' for g in range(1, 6)) + '{"genera')
    assert len(read_metrics(path)) == 5
    metrics = MetricsFile(path, start=3)
    metrics.append({"generation": 4, "again": 1})
    metrics.close()
    assert [line["generation"] for line in read_metrics(path)] == [1, 2, 3, 4]
    assert read_metrics(path)[-1] == {"generation": 4, "again": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
