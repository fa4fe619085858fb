"""The script for sbatch: a job array in which each task runs one cell."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from evoconn_cli.config.launch import LaunchConfig, SlurmConfig, parse_duration
from evoconn_cli.config.registry import PLUGINS_VARIABLE
from evoconn_cli.grid.cell_process import PLACE_VARIABLE, PYTHON, cell_command
from evoconn_cli.grid.cells import Cell

FOLDER = "slurm"
"""Folder in the directory of a grid: scripts of the arrays, and what SLURM itself says about their tasks."""

_CELLS_BEGIN, _CELLS_END = "cells=(", ")"


def make_script(
    name: str, cells: Sequence[Cell], launch: LaunchConfig, directory: Path, *, program: Sequence[str] | None = None
) -> str:
    """Returns the script of an array.

    Args:
        name: Unique name of the array.
        cells: Cells that its tasks run.
        launch: How cells are run.
        directory: Directory of the grid.
        program: Program with the command `run-cell`; this one by default.
    """
    folder = str(directory.absolute() / FOLDER).replace("%", "%%")  # SLURM finds no pattern in it
    at_once = f"%{launch.slurm.max_running}" if launch.slurm.max_running else ""
    options = {
        "job-name": name,
        "array": f"0-{len(cells) - 1}{at_once}",
        "ntasks": "1",
        "cpus-per-task": str(launch.cores_per_run),
        **_asked_for(launch.slurm),
        "signal": f"USR1@{launch.slurm.save_before}",
        "requeue": "",
        "open-mode": "append",
        "output": f"{folder}/%A_%a.log",
    }
    return "\n".join(
        [
            "#!/bin/bash",
            *(
                f"#SBATCH --{key}={shlex.quote(value)}" if value else f"#SBATCH --{key}"
                for key, value in options.items()
            ),
            "",
            _CELLS_BEGIN,
            *(f"  {shlex.quote(str(cell.path.absolute()))}" for cell in cells),
            _CELLS_END,
            "cell=${cells[$SLURM_ARRAY_TASK_ID]}",
            f'export {PLACE_VARIABLE}="slurm ${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"',
            *(f"export {key}={shlex.quote(value)}" for key, value in launch.environment.items()),
            f"export {PLUGINS_VARIABLE}=",
            "",
            "# Runs the command after it, and requeues the task if the cell is to go on.",
            f'exec {shlex.join([*PYTHON, "-m", "evoconn_cli.grid.slurm_task"])} "$cell" {launch.retries} \\',
            f"  srun --quiet --cpus-per-task={launch.cores_per_run} {_run_cell(cells[0], launch, program)}",
            "",
        ]
    )


def cells_in(script: str) -> list[Path]:
    """Returns the directories of the cells in a script, by number of their task; none for any other text.

    Raises:
        ValueError: The list of the cells has an open quote.
    """
    _, begin, rest = script.partition(f"\n{_CELLS_BEGIN}\n")
    inside, end, _ = rest.partition(f"\n{_CELLS_END}\n")
    return [Path(path) for path in shlex.split(inside)] if begin and end else []


def time_option(limit: str) -> str:
    """Returns a time limit such as `4h` in the form of sbatch, in whole minutes."""
    minutes = math.ceil(parse_duration(limit) / 60)
    return f"{minutes // 1440}-{minutes // 60 % 24:02d}:{minutes % 60:02d}:00"


def _asked_for(slurm: SlurmConfig) -> dict[str, str]:
    named = {name: getattr(slurm, name) for name in ("partition", "account", "qos", "gres", "mem")}
    named["time"] = None if slurm.time is None else time_option(slurm.time)
    return {**{name: value for name, value in named.items() if value is not None}, **slurm.sbatch}


def _run_cell(cell: Cell, launch: LaunchConfig, program: Sequence[str] | None) -> str:
    """Returns the command of a cell, with a variable of the script for its directory."""
    directory = str(cell.path.absolute())
    command = cell_command(cell, launch, program)
    return " ".join('"$cell"' if word == directory else shlex.quote(word) for word in command)
