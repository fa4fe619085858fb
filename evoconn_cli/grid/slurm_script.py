"""The script that sbatch gets: one array, in which each task runs one cell."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from evoconn_cli.config.launch import LaunchConfig, SlurmConfig, parse_duration
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.executor import PLACE_VARIABLE, PROGRAM, PYTHON, cell_command

FOLDER = "slurm"
"""In the directory of a grid: scripts of the arrays, and the output of their tasks beside that of the cells."""

_CELLS_BEGIN, _CELLS_END = "cells=(", ")"


def make_script(
    name: str,
    cells: Sequence[Cell],
    launch: LaunchConfig,
    directory: Path,
    program: Sequence[str] = PROGRAM,
) -> str:
    """Returns the script of an array.

    Args:
        name: of the array; no other has it.
        cells: what its tasks run.
        launch: how they are run.
        directory: of the grid.
        program: the command line.
    """
    last = len(cells) - 1
    at_once = f"%{launch.slurm.max_running}" if launch.slurm.max_running else ""
    options = {
        "job-name": name,
        "array": f"0-{last}{at_once}",
        "ntasks": "1",
        "cpus-per-task": str(launch.cores_per_run),
        **_asked_for(launch.slurm),
        "signal": f"USR1@{launch.slurm.save_before}",
        "requeue": "",
        "open-mode": "append",
        "output": f"{_escaped(directory.absolute() / FOLDER)}/%A_%a.log",
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
            "",
            "# It runs the command after it, and puts the task back into the queue where the cell is to go on.",
            f'exec {shlex.join([*PYTHON, "-m", "evoconn_cli.grid.slurm_task"])} "$cell" {launch.retries} \\',
            f"  srun --quiet --cpus-per-task={launch.cores_per_run} {_run_cell(cells[0], launch, program)}",
            "",
        ]
    )


def cells_in(script: str) -> list[Path]:
    """Returns the directories of the cells of a script, by the number of their task; none of any other text."""
    _, begin, rest = script.partition(f"\n{_CELLS_BEGIN}\n")
    inside, end, _ = rest.partition(f"\n{_CELLS_END}\n")
    try:
        return [Path(path) for path in shlex.split(inside)] if begin and end else []
    except ValueError:
        return []


def time_option(limit: str) -> str:
    """Returns a time limit such as `4h` as sbatch takes it, in whole minutes."""
    minutes = math.ceil(parse_duration(limit) / 60)
    return f"{minutes // 1440}-{minutes // 60 % 24:02d}:{minutes % 60:02d}:00"


def _asked_for(slurm: SlurmConfig) -> dict[str, str]:
    named = {name: getattr(slurm, name) for name in ("partition", "account", "qos", "gres", "mem")}
    named["time"] = None if slurm.time is None else time_option(slurm.time)
    return {**{name: value for name, value in named.items() if value is not None}, **slurm.sbatch}


def _run_cell(cell: Cell, launch: LaunchConfig, program: Sequence[str]) -> str:
    """Returns the command of a cell, in which the directory is a variable of the script."""
    directory = str(cell.path.absolute())
    command = cell_command(cell, launch, program)
    return " ".join('"$cell"' if word == directory else shlex.quote(word) for word in command)


def _escaped(path: Path) -> str:
    """Returns a path in which SLURM takes no character for a pattern."""
    return str(path).replace("%", "%%")
