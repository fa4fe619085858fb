"""W&B's library itself against servers, services and disks that fail: the training goes on, and one note says it."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from small_disk import Disk
from test_tracking import history_of, records_of
from wandb_server import KEY, WandbServer
from whole_runs import Listening, resume_small, run_small

from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.metrics import read_metrics
from evoconn_cli.training import tracking as tracker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),  # W&B's killed services
]


@pytest.fixture(autouse=True)
def dead_services_reaped():
    """Polls services that have died: a `Popen` that nobody polled warns in whichever test it is collected."""
    yield
    for thing in gc.get_objects():
        if isinstance(thing, subprocess.Popen):
            thing.poll()
    gc.collect()


@pytest.fixture(autouse=True)
def account(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)


@pytest.fixture
def impatient(monkeypatch):
    """Waits seconds where a user's run waits a minute."""
    monkeypatch.setitem(tracker.RUN_SETTINGS, "init_timeout", 2.0)
    monkeypatch.setitem(tracker.RUN_SETTINGS, "finish_timeout", 2.0)


@pytest.fixture
def server(monkeypatch):
    started = WandbServer()
    monkeypatch.setenv("WANDB_BASE_URL", started.url)
    yield started
    started.mood = "good"
    started.close()


def run_tracked(path: Path, *overrides: str, mode: str = "auto", at_generation=lambda generation: None):
    """Returns the notes of a whole run, whose metrics.jsonl is complete in any case."""
    progress = Listening(at_generation)
    outcome = run_small(path, f"tracking.wandb={mode}", "tracking.project=probe", *overrides, progress=progress)
    assert outcome.finished
    assert [line["generation"] for line in read_metrics(path / "metrics.jsonl")] == list(range(1, 7))
    return progress.notes


def recorded(path: Path) -> list[int]:
    """Returns the generations in W&B's own files of a run, in the order of the files."""
    files = sorted(path.glob("wandb/*run-*/run-*.wandb"))
    return [line["generation"] for file in files for line in history_of(file)]


def service() -> int:
    """Returns the process of W&B's service that this process has started."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid() and fields[0] != "Z" and "wandb-core" in (entry / "cmdline").read_text():
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError("no service was started")


@pytest.mark.parametrize("mood", ["refused", "error", "garbage", "silent"])
def test_a_server_that_is_no_server_leaves_the_run_offline_and_whole(light, tmp_path, server, impatient, mood):
    if mood == "refused":
        server.close()
    server.mood = mood
    notes = run_tracked(tmp_path / "run")
    assert len(notes) == 1 and "recorded offline" in notes[0] and "wandb sync" in notes[0]
    assert KEY not in notes[0]
    assert recorded(tmp_path / "run") == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("mood", ["error", "silent"])
def test_a_server_that_fails_in_the_middle_is_noted_at_the_end(light, tmp_path, server, monkeypatch, mood):
    monkeypatch.setitem(tracker.RUN_SETTINGS, "finish_timeout", 2.0)

    def fail(generation):
        if generation == 3:
            server.mood = mood

    notes = run_tracked(tmp_path / "run", at_generation=fail)
    assert len(notes) == 1 and "did not take all records" in notes[0] and "wandb sync --include-online" in notes[0]
    assert recorded(tmp_path / "run") == [1, 2, 3, 4, 5, 6]


def test_a_service_that_dies_is_noted_once(light, tmp_path):
    def kill(generation):
        if generation == 3:
            os.kill(service(), signal.SIGKILL)

    notes = run_tracked(tmp_path / "run", mode="offline", at_generation=kill)
    assert len(notes) == 1 and "W&B" in notes[0] and "metrics.jsonl is complete" in notes[0]


def test_a_service_that_hangs_is_left_alone(light, tmp_path, monkeypatch):
    stopped = []

    def stop(generation):
        if generation == 3:
            monkeypatch.setattr(tracker, "CALL_TIMEOUT", 2.0)
            stopped.append(service())
            os.kill(stopped[0], signal.SIGSTOP)

    try:
        notes = run_tracked(tmp_path / "run", mode="offline", at_generation=stop)
    finally:
        os.kill(stopped[0], signal.SIGKILL)
    assert len(notes) == 1 and "metrics.jsonl is complete" in notes[0]
    for thread in threading.enumerate():
        if thread.name == "guarded":  # was left alone, and ends now
            thread.join()


def test_a_full_disk_for_its_files_does_not_end_the_run(light, tmp_path):
    """The file system is mounted when the run is there, and full before W&B has written anything."""
    run_small(tmp_path / "run", "algo.generations=1", "tracking.wandb=disabled")
    disk = Disk(tmp_path / "run" / "wandb", "64k")
    try:
        disk.fill()
        progress = Listening()
        assert resume_small(
            tmp_path / "run", "algo.generations=6", "tracking.wandb=offline", progress=progress
        ).finished
    finally:
        disk.unmount()
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 6
    assert len(progress.notes) == 1 and "metrics.jsonl is complete" in progress.notes[0]


def test_a_resumed_run_goes_on_in_the_same_run_of_wandb(light, tmp_path, server):
    """Also where it repeats generations, as after a crash or `--from-step`."""
    assert run_tracked(tmp_path / "run") == []
    run_id = RunDirectory.open(tmp_path / "run").read_facts()["wandb_id"]
    progress = Listening()
    resume_small(tmp_path / "run", "algo.generations=8", progress=progress)
    assert progress.notes == []
    resume_small(tmp_path / "run", from_step=6)
    assert RunDirectory.open(tmp_path / "run").read_facts()["wandb_id"] == run_id
    assert list(server.history) == [run_id]
    generations = [line["generation"] for line in server.history[run_id]]
    assert generations[:8] == [1, 2, 3, 4, 5, 6, 7, 8] and generations[8:] in ([], [7, 8])


def test_a_copy_of_a_run_goes_on_in_a_run_of_wandb_of_its_own(light, tmp_path, server):
    run_tracked(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    for name, expected in (("copy", ["copy"]), ("copy", []), ("run", [])):
        progress = Listening()
        resume_small(tmp_path / name, f"algo.generations={9 if expected else 10}", progress=progress)
        assert [note.partition(" is a ")[2][:4] for note in progress.notes] == expected
    ids = [RunDirectory.open(tmp_path / name).read_facts()["wandb_id"] for name in ("run", "copy")]
    assert ids == list(server.history) and ids[0] != ids[1]
    assert [[line["generation"] for line in server.history[run_id]] for run_id in ids] == [
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        [7, 8, 9, 10],
    ]


def test_offline_parts_of_a_run_are_uploaded_in_order_by_the_command_that_is_noted(light, tmp_path, server, impatient):
    """Also where generations are repeated, as after `--from-step`: their values are the same."""
    url, server.mood = server.url, "error"
    (note,) = run_tracked(tmp_path / "run", "checkpoint.every=1", "checkpoint.keep_every=1")
    resume_small(tmp_path / "run", "algo.generations=8", "tracking.wandb=offline")
    resume_small(tmp_path / "run", "algo.generations=10", from_step=7)
    run_id = RunDirectory.open(tmp_path / "run").read_facts()["wandb_id"]
    assert recorded(tmp_path / "run") == [1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10]
    server.mood = "good"
    command = note.rpartition(": ")[2].replace("wandb sync", f"{sys.executable} -m wandb sync", 1)
    environment = {**os.environ, "WANDB_BASE_URL": url}
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = server.history[run_id]
    assert [line["generation"] for line in lines] == [1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10]
    assert [line["_step"] for line in lines] == list(range(1, 12))
    metrics = {line["generation"]: line["eval_fitness"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")}
    assert all(line["eval_fitness"] == metrics[line["generation"]] for line in lines)


def test_curves_are_drawn_over_generations(light, tmp_path):
    run_tracked(tmp_path / "run", mode="offline")
    (file,) = tmp_path.glob("run/wandb/offline-run-*/run-*.wandb")
    axes = [record.metric for record in records_of(file) if record.WhichOneof("record_type") == "metric"]
    assert ("*", "generation") in [(axis.glob_name, axis.step_metric) for axis in axes]


@pytest.mark.parametrize("run_id", ["../../../outside", "a/b", "", ".", 3, None, ["x"], "x" * 65, "a\nb"])
def test_an_id_that_is_none_is_not_used(light, tmp_path, run_id):
    run_small(tmp_path / "run", "algo.generations=1", "tracking.wandb=disabled")
    facts = tmp_path / "run" / "run.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "wandb_id": run_id}))
    resume_small(tmp_path / "run", "algo.generations=2")
    assert json.loads(facts.read_text())["wandb_id"] is None
