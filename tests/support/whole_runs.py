"""Whole runs on a probe task, in this process and in others, and what to compare of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
from paths import SUPPORT
from started import killed_after, start

from evoconn_cli.config.loading import load_config
from evoconn_cli.engine.build import build_engine
from evoconn_cli.progress.display import Progress
from evoconn_cli.runs.metrics import read_metrics
from evoconn_cli.training.checkpoints import CheckpointStore
from evoconn_cli.training.opening import create_run, reopen_run
from evoconn_cli.training.train import train

SMALL = [
    "task.episode_length=8",
    "algo.population=40",
    "algo.evaluation_copies=4",
    "network.num_neurons=40",
    "engine.block=8",
    "checkpoint.every=2",
]


def quiet() -> Progress:
    return Progress()


def run_small(path: Path, *overrides: str, progress=None, **options):
    """Trains a new run with the further `options` of `train`."""
    config = load_config("smoke", [*SMALL, "algo.generations=6", *overrides])
    return train(create_run(config, path), progress or quiet(), **options)


def resume_small(path: Path, *overrides: str, progress=None, from_step=None, discard_later=False, **options):
    """Resumes a run with the further `options` of `train`."""
    run = reopen_run(path, overrides, from_step=from_step, discard_later=discard_later)
    return train(run, progress or quiet(), **options)


class Listening(Progress):
    """A progress that keeps the notes, and calls `at_generation(number)` for each generation."""

    def __init__(self, at_generation=lambda generation: None):
        self.notes: list[str] = []
        self.at_generation = at_generation

    def note(self, message):
        self.notes.append(message)

    def generation(self, metrics):
        self.at_generation(metrics["generation"])


def saved_state(path: Path, make_engine=build_engine):
    """Returns all arrays of the latest checkpoint, by name."""
    run = reopen_run(path, [])
    store = CheckpointStore(run.directory.checkpoints)
    like = make_engine(run.config, run.workers).initial_state()
    state, _ = store.restore(store.latest(), like, jax.devices()[0], run.config)
    store.close()
    return {jax.tree_util.keystr(key): np.asarray(x) for key, x in jax.tree_util.tree_leaves_with_path(state)}


def comparable(path: Path):
    """Returns the metrics of a run without what only the machine decides: the clock, and how full its lanes were."""
    lines = read_metrics(path / "metrics.jsonl")
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "elapsed", "env_steps_simulated")}
        for line in lines
    ]


def assert_same_run(a: Path, b: Path, make_engine=build_engine):
    assert comparable(a) == comparable(b)
    first, second = saved_state(a, make_engine), saved_state(b, make_engine)
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


def evoconn(*arguments: str, cwd: Path, light: bool = False, **kwargs):
    """Starts the program; with `light`, with an engine that need not be compiled."""
    program = [str(SUPPORT / "light_evoconn.py")] if light else ["-m", "evoconn_cli"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environment = {**os.environ, "WANDB_MODE": "disabled"}
    return start([sys.executable, *program, *arguments], cwd=cwd, **{"env": environment, **streams, **kwargs})


def wait_for_generation(process, generation: int) -> None:
    """Reads a run's output until a generation is shown."""
    with killed_after(process):
        for line in process.stdout:
            words = line.split()
            if words[:1] == ["generation"] and int(words[1].split("/")[0]) >= generation:
                return
    raise AssertionError("the run ended before that generation")
