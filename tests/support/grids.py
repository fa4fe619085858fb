"""Grids of tiny cells, and readers of their directories."""

from __future__ import annotations

import json
import os
from pathlib import Path

from paths import LIGHT_EVOCONN

from evoconn_cli.config.grid import read_grid
from evoconn_cli.grid.attempts import read_attempts
from evoconn_cli.grid.cells import Cell, expand

LIGHT = LIGHT_EVOCONN
"""Command line with an engine that is not compiled."""

TINY = """
base: smoke
sets:
  small: {algo.population: 32, algo.evaluation_copies: 4, network.num_neurons: 16}
  smaller: {algo.population: 24, algo.evaluation_copies: 4, network.num_neurons: 8}
tasks: [probe_sign, probe_bias]
axes:
  algo.generations: [4]
  task.episode_length: [4]
  engine.block: [8]
  checkpoint.every: [2]
seeds: [0, 1]
launch: {retry_pause: 0, cores_per_run: 1}
"""
"""Two sets, two tasks, two seeds."""

ONE_TASK = TINY.replace("tasks: [probe_sign, probe_bias]", "tasks: [probe_sign]")
"""Two sets, two seeds."""


def fill_with_modules(folder: Path) -> Path:
    """Returns `folder` with modules that exit when they are imported, to prove that nothing imports from it."""
    for name in ("random", "json", "runpy", "jax", "numpy", "brax", "mujoco", "omegaconf", "typer", "evoconn_cli"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} comes from the working directory')")
    return folder


GONE = 2**22 + 1
"""A process id that cannot exist: those of Linux are at most 2**22."""

USABLE_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


def write_grid(folder: Path, text: str = TINY, name: str = "tiny") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def load_cells(path: Path, directory: Path) -> list[Cell]:
    return expand(read_grid(str(path)), directory)


def generations_of(cell: Cell) -> list[int]:
    """Returns the generations in metrics.jsonl."""
    lines = (cell.path / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["generation"] for line in lines]


def starts_of(cell: Cell) -> list[int]:
    """Returns the newest saved generation at the start of each attempt at a cell."""
    return [attempt.from_generation for attempt in read_attempts(cell.path).attempts]
