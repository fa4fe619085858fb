"""Searches whose cells are a stand-in for trainings, in this process or as a launcher of its own.

`python searches.py GRID DIRECTORY PROGRAM` runs one; it can be killed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

from evoconn_cli.grid import device_locks, scheduler
from evoconn_cli.grid.cells import Grid, open_grid, prepare
from evoconn_cli.grid.devices import LocalDevice
from evoconn_cli.grid.local_executor import LocalExecutor
from evoconn_cli.grid.scheduler import Scheduler

GRID = """
base: smoke
sets:
  a: {{task.episode_length: 5, algo.population: 20, algo.evaluation_copies: 4, algo.generations: 10}}
search: {search}
seeds: [{seeds}]
launch: {{retries: 0, retry_pause: 0, cores_per_run: 1}}
"""
"""Runs of at most 1000 environment steps."""

TRAINER = """
import json, os, signal, sys, time
signal.alarm(60)
from pathlib import Path
cell = Path(sys.argv[2])
from evoconn_cli.grid.attempts import record_end, record_start
facts = json.loads((cell / "run.json").read_text())["grid"]
rate, trial, journal = facts["settings"]["algo.learning_rate"], facts["trial"], cell.parents[1] / "study.jsonl"
saved = max((int(path.name) for path in (cell / "checkpoints").glob("*")), default=0)
record_start(cell, "here", saved)
def end(*_):
    (cell / "checkpoints" / str(generation)).mkdir(parents=True)
    record_end(cell, 75)
    sys.exit(75)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGUSR1, end)  # from SLURM
def wait_for(fact):
    while not fact(): time.sleep(0.01)
with (cell / "metrics.jsonl").open("a") as file:
    for generation in range(saved + 1, 11):
        line = {"generation": generation, "env_steps": 100 * generation, "eval_fitness": rate * generation}
        file.write(json.dumps(line) + "\\n")
        file.flush()
        if generation == 5: MEANWHILE
(cell / "checkpoints" / "10").mkdir(parents=True)
record_end(cell, 0)
"""
"""In place of `evoconn`: its fitness grows with the learning rate. MEANWHILE stands for what it does half-way."""


UNTIL_COMPARED = 'wait_for(lambda: f\'"trial_id":{trial},"step":500\' in journal.read_text())'
"""A pruned trial is never compared at 500 steps, so it waits until it is asked to end."""


def write_search(folder: Path, search: str, *, seeds: str = "0") -> Path:
    """Returns a grid file with this section `search`."""
    path = folder / "probe.yaml"
    path.write_text(GRID.format(search=search, seeds=seeds))
    return path


def write_program(folder: Path, meanwhile: str = "pass") -> Path:
    """Returns the program of a cell."""
    path = folder / "program.py"
    path.write_text(TRAINER.replace("MEANWHILE", meanwhile))
    return path


class OneDevice:
    """A device that is always idle and has room for two runs."""

    device = LocalDevice("gpu 7", ("GPU-7",), {}, capacity=2)

    def all(self):
        return [self.device]

    def idle(self, held=frozenset()):
        return [] if self.device in held else [self.device]


def run_search(file: Path, directory: Path, program: Path) -> tuple[Grid, list[str]]:
    """Runs a search to its end; returns the grid and the notes."""
    grid, notes = open_grid(str(file), directory), []
    for cell in grid.cells:
        prepare(cell, grid.file.name)
    launch = grid.file.launch
    executor = LocalExecutor(launch, OneDevice(), notes.append, [sys.executable, str(program)])
    locks = patch.object(device_locks, "lock_folder", lambda: directory.parent / "locks")
    with locks, patch.multiple(scheduler, _FOLLOW=0.05, _LOOK_ELSEWHERE=0.05):
        Scheduler(executor, launch, notes.append, grid.search).run(list(grid.cells))
    return grid, notes


if __name__ == "__main__":
    run_search(*map(Path, sys.argv[1:]))
