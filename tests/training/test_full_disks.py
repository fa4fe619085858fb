"""Disks that are full or read-only: a training ends with a message, and what was saved stays good."""

from __future__ import annotations

import jax
import pytest
from small_disk import Disk
from whole_runs import Listening, assert_same_run, evoconn, resume_small, run_small, saved_state

from evoconn_cli.errors import CheckpointError, EvoconnError, RunDirectoryError
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.metrics import read_metrics
from evoconn_cli.training.checkpoints import CheckpointStore, HostFacts
from evoconn_cli.training.opening import reopen_run


@pytest.fixture
def disk(tmp_path):
    mounted = Disk(tmp_path / "disk", "3m")
    yield mounted
    mounted.unmount()


@pytest.fixture
def straight(tmp_path, light):
    run_small(tmp_path / "straight")
    return tmp_path / "straight"


@pytest.mark.slow
@pytest.mark.parametrize("full_at", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("leave", [0, 40_000])
def test_a_disk_that_fills_up_ends_the_run_and_the_rest_of_it_is_the_same(disk, straight, light, full_at, leave):
    """Checkpoints are due at 2, 4 and 6; with some room left the first thing that fails is one of them."""
    path = disk.path / "run"

    def fill(generation):
        if generation == full_at:
            disk.fill(leave)

    with pytest.raises(EvoconnError, match="No space left on device") as caught:
        run_small(path, progress=Listening(fill))
    latest = full_at - 1 - (full_at - 1) % 2
    names = sorted(entry.name for entry in (path / "checkpoints").glob("*"))
    assert [name for name in names if name in "24"] == [str(due) for due in (2, 4) if due <= latest]
    assert int(max(names, default="0")) in (latest, latest + 1), "the best network may be newer"
    kept = f"generation {latest} is kept" if latest else "nothing is saved yet"
    before = f"Saved before and kept: {', '.join(names) or 'none'}."
    assert kept in str(caught.value) or before in str(caught.value), str(caught.value)
    if latest:
        saved_state(path, light)
    assert not (path / "lock").exists()
    disk.empty()
    assert resume_small(path).finished
    assert_same_run(straight, path, light)


@pytest.mark.slow
def test_wherever_saving_fails_the_checkpoint_before_stays_good(disk, light):
    run_small(disk.path / "run", "algo.generations=2", "checkpoint.every=1")
    run = reopen_run(disk.path / "run", [])
    store = CheckpointStore(run.directory.checkpoints, run.config)
    state, _ = store.restore(2, light(run.config, run.workers).initial_state(), jax.devices()[0])
    later = state._replace(generation=state.generation + 1)
    saved = 0
    for leave in range(0, 120_000, 8192):
        disk.fill(leave)
        try:
            store.save(later, HostFacts(0.0), 0.0)
        except CheckpointError as error:
            assert "generation 3 could not be written" in str(error) and "kept: 1, 2" in str(error)
            assert [entry.name for entry in sorted(run.directory.checkpoints.iterdir())] == ["1", "2"]
        else:
            saved += 1
            store.delete(3)
        store.restore(2, state, jax.devices()[0], run.config)
        disk.empty()
    assert 0 < saved < 15, "there was too much room, or never enough"


def test_a_full_disk_takes_no_new_run_and_leaves_nothing(disk):
    disk.fill()
    with pytest.raises(RunDirectoryError, match="cannot create .*No space left on device"):
        run_small(disk.path / "runs" / "run")
    assert sorted(entry.name for entry in disk.path.iterdir()) in (["filling"], ["filling", "runs"])
    assert not list((disk.path / "runs").glob("*"))


def test_on_a_full_disk_no_run_goes_on_and_none_is_harmed(disk, straight, light):
    run_small(disk.path / "run", "algo.generations=4")
    before = {path: path.read_bytes() for path in (disk.path / "run").rglob("*") if path.is_file()}
    disk.fill()
    with pytest.raises(EvoconnError, match="No space left on device"):
        resume_small(disk.path / "run", "algo.generations=6")
    assert before == {path: path.read_bytes() for path in (disk.path / "run").rglob("*") if path.is_file()}
    disk.empty()
    assert resume_small(disk.path / "run", "algo.generations=6").finished
    assert_same_run(straight, disk.path / "run", light)


def test_a_read_only_disk_can_be_read_and_not_trained_on(disk, light):
    run_small(disk.path / "run", "algo.generations=2")
    disk.make_read_only()
    with pytest.raises(RunDirectoryError, match="cannot write in the run directory .*Read-only file system"):
        resume_small(disk.path / "run", "algo.generations=4")
    with pytest.raises(RunDirectoryError, match="no permission to write"):
        run_small(disk.path / "other")
    run = RunDirectory.open(disk.path / "run")
    store = CheckpointStore(run.checkpoints)
    assert (store.latest(), store.best()) == (2, 1)
    saved_state(disk.path / "run", light)


@pytest.mark.slow
@pytest.mark.parametrize("full_at", [0, 3])
def test_a_full_disk_for_event_files_is_noted_once_and_the_run_goes_on(tmp_path, light, full_at):
    run_small(tmp_path / "run", "algo.generations=2")
    small = Disk(tmp_path / "run" / "tensorboard", "64k")
    try:
        listening = Listening(lambda generation: small.fill() if generation == full_at else None)
        if full_at == 0:
            small.fill()
        keys = ["algo.generations=60", "tracking.tensorboard=true"]
        assert resume_small(tmp_path / "run", *keys, progress=listening).finished
    finally:
        small.unmount()
    assert len([note for note in listening.notes if "TensorBoard" in note and "No space left" in note]) == 1
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 60


@pytest.mark.slow
def test_the_program_says_it_in_one_line_and_exits_with_1(disk):
    arguments = ["train", "--config", "smoke", "--run-dir", str(disk.path / "run"), "--generations", "1000000"]
    process = evoconn(*arguments, "checkpoint.every=5", "checkpoint.keep_every=5", cwd=disk.path.parent, light=True)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert "Traceback" not in output
    assert "Error: " in output.splitlines()[-1] and "No space left on device" in output.splitlines()[-1]


@pytest.mark.slow
def test_a_log_on_a_full_disk_does_not_end_the_run(disk, tmp_path):
    arguments = ["train", "--config", "smoke", "--run-dir", "run", "--generations", "30"]
    disk.fill(100)
    with (disk.path / "log.txt").open("w") as log:
        disk.fill()
        process = evoconn(*arguments, cwd=tmp_path, light=True, stdout=log, stderr=log)
        assert process.wait(timeout=120) == 0
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 30
