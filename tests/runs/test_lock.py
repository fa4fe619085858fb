"""One process trains a run at a time, and a dead one keeps nobody out."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading

import pytest
from whole_runs import Listening, resume_small, run_small

from evoconn_cli.config.loading import load_config
from evoconn_cli.errors import RunBusyError, RunDirectoryError
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.lock import PATIENCE, run_lock
from evoconn_cli.runs.metrics import read_metrics

HOLDER = """
import sys
from pathlib import Path
from evoconn_cli.runs.lock import run_lock
with run_lock(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def never(seconds):
    raise AssertionError("there is nothing to wait for")


def hold(tmp_path, note=never, pause=never):
    with run_lock(tmp_path / "lock", note, pause=pause):
        return json.loads((tmp_path / "lock").read_text())


def left_by(tmp_path, **owner):
    """Writes the lock of a process that did not close its run."""
    (tmp_path / "lock").write_text(json.dumps({"pid": 1, "host": os.uname().nodename, "since": "long ago", **owner}))


def test_the_second_is_refused_with_pid_and_host_of_the_first(tmp_path, holder):
    with pytest.raises(RunDirectoryError) as caught:
        hold(tmp_path)
    assert f"process {holder.pid} on {os.uname().nodename}, since 2" in str(caught.value)


def test_the_lock_of_a_killed_process_is_free(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / "lock").exists()
    assert hold(tmp_path)["pid"] == os.getpid()


def test_a_lock_that_was_given_back_leaves_nothing(tmp_path, holder):
    holder.communicate("")
    assert not list(tmp_path.iterdir())
    hold(tmp_path)
    assert not list(tmp_path.iterdir())


def test_it_is_given_back_after_an_error_too(tmp_path):
    with pytest.raises(ZeroDivisionError), run_lock(tmp_path / "lock", never):
        _ = 1 / 0
    assert not list(tmp_path.iterdir())


def test_within_a_process_it_is_held_once(tmp_path):
    with run_lock(tmp_path / "lock", never), pytest.raises(RunDirectoryError, match=f"process {os.getpid()} "):
        hold(tmp_path)


def test_a_lock_removed_while_it_was_taken_is_taken_anew(tmp_path, monkeypatch):
    """Its last owner removes the file after this process has opened it, and a third one makes it again."""
    taken = []

    def flock(descriptor, operation):
        if not taken:
            (tmp_path / "lock").unlink()
        taken.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(fcntl, "flock", flock)
    hold(tmp_path)
    assert len(taken) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "1", "host": "a"}', '{"pid": 1, "host": "\\u001b[2J"}'])
def test_a_file_that_names_nobody_is_free(tmp_path, text):
    (tmp_path / "lock").write_text(text)
    hold(tmp_path)


# Other hosts, and file systems whose locks do not reach them


def test_a_lock_of_another_host_is_free_when_nobody_renews_it(tmp_path):
    left_by(tmp_path, host="elsewhere")
    notes, pauses = [], []
    hold(tmp_path, notes.append, pauses.append)
    assert sum(pauses) == PATIENCE
    assert len(notes) == 1 and "process 1 on elsewhere" in notes[0]


def test_a_lock_of_another_host_that_is_renewed_is_held(tmp_path):
    left_by(tmp_path, host="elsewhere")
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 12:
            os.utime(tmp_path / "lock")

    with pytest.raises(RunDirectoryError, match="process 1 on elsewhere"):
        hold(tmp_path, lambda note: None, pause)
    assert len(pauses) == 12
    assert (tmp_path / "lock").exists()


def test_a_lock_that_is_given_back_while_it_is_waited_for_is_free(tmp_path):
    left_by(tmp_path, host="elsewhere")
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            (tmp_path / "lock").unlink()

    assert hold(tmp_path, lambda note: None, pause)["pid"] == os.getpid()
    assert len(pauses) == 3 and not list(tmp_path.iterdir())


def test_a_lock_that_another_host_has_taken_over_is_left_to_it(tmp_path):
    with run_lock(tmp_path / "lock", never) as held:
        held.check()
        left_by(tmp_path, host="elsewhere")
        with pytest.raises(RunBusyError, match="was taken over by process 1 on elsewhere"):
            held.check()
    assert "elsewhere" in (tmp_path / "lock").read_text()


def test_a_lock_that_cannot_be_written_is_held_all_the_same(tmp_path, monkeypatch):
    def pwrite(descriptor, data, offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", pwrite)
    with run_lock(tmp_path / "lock", never) as held:
        held.check()
    assert not list(tmp_path.iterdir())


def test_the_owner_renews_its_lock(tmp_path, monkeypatch):
    renewed = threading.Event()
    monkeypatch.setattr(os, "utime", lambda descriptor: renewed.set())
    with run_lock(tmp_path / "lock", never, renewed_every=0.0):
        assert renewed.wait(timeout=30)


@pytest.fixture
def no_locks(monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


def test_without_locks_of_the_system_a_living_owner_keeps_it(tmp_path, no_locks, holder):
    left_by(tmp_path, pid=holder.pid)
    with pytest.raises(RunDirectoryError, match=f"process {holder.pid} "):
        hold(tmp_path)
    holder.kill()
    holder.wait()
    hold(tmp_path)


# Runs


def test_a_run_in_training_is_not_trained_twice(light, tmp_path):
    refusals = []

    def train_it_too(generation):
        before = (tmp_path / "run" / "run.json").read_text(), (tmp_path / "run" / "config.yaml").read_text()
        with pytest.raises(RunDirectoryError) as caught:
            resume_small(tmp_path / "run", "algo.generations=9")
        refusals.append(str(caught.value))
        assert before == (
            (tmp_path / "run" / "run.json").read_text(),
            (tmp_path / "run" / "config.yaml").read_text(),
        ), "the second one changes nothing"

    assert run_small(tmp_path / "run", progress=Listening(train_it_too)).finished
    assert len(refusals) == 6 and all(f"process {os.getpid()} on {os.uname().nodename}" in text for text in refusals)
    assert resume_small(tmp_path / "run").finished


@pytest.mark.parametrize("gone", [False, True], ids=["trains", "has ended"])
def test_a_run_that_was_taken_over_is_written_no_more(light, tmp_path, gone):
    path = tmp_path / "run"

    def take_over(generation):
        if generation == 3:
            (path / "lock").unlink() if gone else left_by(path, host="elsewhere")
            RunDirectory(path).update_facts(status="of the other one")

    with pytest.raises(RunBusyError, match="was taken over by"):
        run_small(path, progress=Listening(take_over))
    assert len(read_metrics(path / "metrics.jsonl")) == 3
    assert RunDirectory.open(path).last_saved_generation() == 2
    assert RunDirectory.open(path).read_facts()["status"] == "of the other one"
    assert (path / "lock").exists() is not gone


def test_of_many_that_create_a_run_one_does(tmp_path):
    config = load_config("smoke")
    start, outcomes = threading.Barrier(8), []

    def create(number):
        start.wait()
        try:
            RunDirectory.create(tmp_path / "run", config, {"pid": number, "host": "here"})
            outcomes.append(number)
        except RunDirectoryError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = (outcome for outcome in outcomes if isinstance(outcome, int))
    refusals = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(refusals) == 7
    assert all(f"exists already, made by process {winner} on here" in refusal for refusal in refusals)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]
    assert RunDirectory.open(tmp_path / "run").read_facts()["pid"] == winner
