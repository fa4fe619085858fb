"""Opening a run at a checkpoint: every way to name one, and every way in which it can be broken."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest
from saved_runs import files_of, save_run

from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.errors import CheckpointError, ConfigError, EvoconnError, RunDirectoryError
from evoconn_cli.evaluation.opened import open_checkpoints, open_run
from evoconn_cli.grid.attempts import read_attempts
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.lock import living_owner
from evoconn_cli.runs.metrics import read_metrics
from evoconn_cli.training import checkpoints as store


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


@pytest.mark.parametrize(
    ("below", "step", "generation"),
    [
        ("", None, 6),
        ("", "latest", 6),
        ("", "best", 4),
        ("", "4", 4),
        ("checkpoints", None, 6),
        ("checkpoints", "best", 4),
        ("checkpoints/4", None, 4),
        ("checkpoints/4", "4", 4),
    ],
)
def test_a_checkpoint_is_named_by_path_and_step(run, below, step, generation):
    opened = open_run(run / below, step)
    assert opened.generation == int(opened.state.generation) == generation
    assert opened.directory.path == run
    assert (opened.task.name, opened.network.name, opened.strategy.name) == ("probe_sign", "conn_snn", "ec")


@pytest.mark.slow
def test_several_checkpoints_come_once_each_and_in_order(run):
    def generations(path, steps):
        return [one.generation for one in open_checkpoints(path, steps)]

    assert generations(run, "all") == generations(run, "6, 4") == generations(run, "best,latest,4") == [4, 6]
    assert generations(run, None) == generations(run / "checkpoints" / "6", "6") == [6]
    first, second = open_checkpoints(run, "all")
    alone = open_run(run, "6")
    np.testing.assert_array_equal(second.state.strategy.probs["recurrent"], alone.state.strategy.probs["recurrent"])
    assert not np.array_equal(first.state.strategy.probs["recurrent"], alone.state.strategy.probs["recurrent"])


@pytest.mark.parametrize(
    ("below", "steps", "message"),
    [
        ("", "4,", "a name is missing beside a comma"),
        ("", "4,5", r"no generation 5\. Saved: 4, 6"),
        ("", "4-6", "--step 4-6: expected latest"),
        ("checkpoints/4", "all", "leave one out"),
    ],
)
def test_steps_that_cannot_be_read_are_told(run, below, steps, message):
    with pytest.raises(EvoconnError, match=message):
        open_checkpoints(run / below, steps)


def test_another_checkpoint_has_other_parameters(run):
    first, second = (open_run(run, step).state.strategy.probs["recurrent"] for step in ("4", "6"))
    assert not np.array_equal(first, second)


def test_a_relative_path_is_understood(run, monkeypatch):
    monkeypatch.chdir(run / "checkpoints")
    assert open_run(Path("4")).generation == 4
    assert open_run(Path(".")).generation == 6


def test_the_state_goes_where_it_is_asked(run):
    device = jax.devices()[2]
    opened = open_run(run, workers=make_worker_mesh([device]))
    assert {x.devices().pop() for x in jax.tree.leaves(opened.state)} == {device}


def test_devices_and_blocks_of_the_training_do_not_matter(tmp_path):
    path = save_run(tmp_path / "large", "engine.block=10240")
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace("devices: null", "devices: 64"))
    assert open_run(path).config.engine.devices == 64


def test_nothing_is_written(run):
    before = files_of(run)
    open_run(run, "best")
    assert files_of(run) == before


@pytest.mark.parametrize(
    ("below", "step", "error", "message"),
    [
        ("", "5", CheckpointError, r"no generation 5\. Saved: 4, 6"),
        ("", "newest", ConfigError, r"expected latest, best or .* Saved .*: 4, 6"),
        ("checkpoints/5", None, CheckpointError, "no generation 5"),
        ("checkpoints/4", "6", ConfigError, "leave one out"),
        ("checkpoints/4/state", None, RunDirectoryError, "inside the run"),
        ("config.yaml", None, RunDirectoryError, "inside the run"),
        ("nowhere", None, RunDirectoryError, "no such file"),
    ],
)
def test_a_wrong_name_is_told(run, below, step, error, message):
    with pytest.raises(error, match=message):
        open_run(run / below, step)


def truncate(folder):
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:5])


def replace_config(path, old, new):
    text = (path / "config.yaml").read_text()
    assert old in text
    (path / "config.yaml").write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: shutil.rmtree(p / "checkpoints"), r"no checkpoint yet.*evoconn resume"),
        (lambda p: truncate(p / "checkpoints" / "6"), r"generation 6|damaged"),
        (lambda p: truncate(p / "checkpoints" / "6" / "state"), "generation 6"),
        (lambda p: shutil.rmtree(p / "checkpoints" / "6" / "state"), "generation 6"),
        (lambda p: replace_config(p, "num_neurons: 40", "num_neurons: 41"), "of another"),
        (lambda p: replace_config(p, "probe_sign", "probe_sing"), r"config\.yaml.*Did you mean 'probe_sign'"),
        (
            lambda p: (p / "config.yaml").write_text("model: resnet\n"),
            r"config\.yaml is not the configuration of a run",
        ),
        (lambda p: (p / "config.yaml").unlink(), "not a run or a checkpoint"),
    ],
    ids=["none", "cut off", "state cut off", "no state", "other", "edited", "foreign", "no config"],
)
def test_a_damaged_or_foreign_checkpoint_is_one_message(copy, damage, message):
    damage(copy)
    with pytest.raises(EvoconnError, match=message):
        open_run(copy, "6")


@pytest.mark.parametrize("step", [None, "latest"])
def test_where_the_latest_is_damaged_the_one_before_is_taken_and_said(copy, step):
    truncate(copy / "checkpoints" / "6" / "state")
    notes = []
    opened = open_run(copy, step, note=notes.append)
    assert opened.generation == int(opened.state.generation) == 4
    assert len(notes) == 1 and "generation 6" in notes[0] and "before" in notes[0]
    with pytest.warns(UserWarning, match="generation 6"):
        open_run(copy, step)


def test_where_all_are_damaged_that_is_an_error(copy):
    truncate(copy / "checkpoints")
    with pytest.raises(CheckpointError, match="all checkpoints in .* are damaged"):
        open_run(copy, note=lambda _: None)


# Checkpoints of a training that goes on, and of another user


@pytest.mark.parametrize("moment", ["read_facts", "check_files", "check_shapes", "after"])
@pytest.mark.parametrize(
    ("step", "deleted", "generations"),
    [(None, 6, [4]), ("best", 4, [6]), ("all", 6, [4]), ("all", 4, [6]), ("6", 6, [])],
)
def test_a_checkpoint_that_is_deleted_while_it_is_read_is_passed_over_for_the_next(
    copy, monkeypatch, moment, step, deleted, generations
):
    def delete():
        (copy / "checkpoints" / str(deleted)).rename(copy / "checkpoints" / f".deleting-{deleted}")
        shutil.rmtree(copy / "checkpoints" / f".deleting-{deleted}")

    restore, check = store.CheckpointStore._restore, getattr(store, moment, None)

    def deleting(self, generation, *arguments):
        doomed = generation == deleted and (copy / "checkpoints" / str(deleted)).exists()
        if doomed and check is not None:
            monkeypatch.setattr(store, moment, lambda *given: (delete(), check(*given))[1])
        try:
            return restore(self, generation, *arguments)
        finally:
            monkeypatch.undo()
            if doomed and check is None:
                delete()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.CheckpointStore, "_restore", deleting)
        notes = []
        if not generations:
            with pytest.raises(CheckpointError, match="generation 6 .* was deleted while it was read"):
                open_checkpoints(copy, step, note=notes.append)
        else:
            assert [one.generation for one in open_checkpoints(copy, step, note=notes.append)] == generations
        assert notes == []


@pytest.fixture
def foreign(run):
    """A copy of the run that another user, who is asked, can see only as far as its modes say."""
    folder = Path(tempfile.mkdtemp())  # other users cannot look into those of pytest
    folder.chmod(0o755)
    copy = shutil.copytree(run, folder / "run")
    yield copy
    subprocess.run(["chmod", "-R", "u+rwX", str(folder)], check=True)
    shutil.rmtree(folder)


@contextmanager
def another_user():
    """Lets this process be nobody, if it is root, who may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("step", [None, "best", "6"])
@pytest.mark.parametrize(
    "closed",
    [".", "config.yaml", "checkpoints", "checkpoints/6", "checkpoints/6/facts.json", "checkpoints/6/state",
     "checkpoints/6/state/d", "checkpoints/6/state/_METADATA"],
)  # fmt: skip
def test_what_may_not_be_read_is_neither_missing_nor_damaged(foreign, closed, step):
    (foreign / (closed.replace("6", "4") if step == "best" else closed)).chmod(0)
    with another_user(), pytest.raises(EvoconnError, match="Permission denied") as caught:
        open_run(foreign, step, note=pytest.fail)
    assert not re.search("damaged|missing|no checkpoint|resume|is not", str(caught.value))


@pytest.mark.parametrize("file", ["run.json", "metrics.jsonl", "lock", "attempts.jsonl"])
def test_a_file_that_may_not_be_read_is_not_taken_for_an_empty_one(foreign, file):
    (foreign / file).touch()
    (foreign / file).chmod(0)
    directory = RunDirectory.open(foreign)
    read = {
        "run.json": directory.read_facts,
        "metrics.jsonl": lambda: read_metrics(directory.metrics_file),
        "lock": lambda: living_owner(directory.lock_file),
        "attempts.jsonl": lambda: read_attempts(foreign),
    }
    with another_user(), pytest.raises(RunDirectoryError, match=f"cannot read .*{file}: Permission denied"):
        read[file]()
