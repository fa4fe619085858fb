"""`evoconn run-cell`: runs or resumes one cell of a grid."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evoconn_cli.commands.options import MaxTime, Plugins, TrainingOptions, argument
from evoconn_cli.commands.terminal import show_error, show_failure
from evoconn_cli.errors import EvoconnError, ExitCode, RunBusyError

if TYPE_CHECKING:
    from evoconn_cli.runs.signals import Interrupts
    from evoconn_cli.training.opening import TrainingRun
    from evoconn_cli.training.processes import Processes


def run_cell(
    cell_dir: Annotated[Path, argument("CELL_DIR", "Directory of the cell.")],
    max_time: MaxTime = None,
    plugin: Plugins = [],  # noqa: B006  # Typer reads it, and the parser has loaded the plug-ins
) -> None:
    """Run or resume a cell of a grid, as launch-grid does; for a scheduler of your own.

    All output goes to log.txt in the directory. Exit code 0: the cell is finished, or pruned; 75: resume it later.
    """
    from evoconn_cli.grid.attempts import read_attempts, record_end, record_start
    from evoconn_cli.grid.cell_process import pin_cores, place_of_process, write_output_to_log
    from evoconn_cli.runs.directory import RunDirectory
    from evoconn_cli.runs.lock import living_owner
    from evoconn_cli.runs.signals import Interrupts, end_with_parent

    with Interrupts() as interrupts:
        run = RunDirectory.open(cell_dir)
        if living_owner(run.lock_file) is not None:
            raise typer.Exit(ExitCode.SAVED_EARLY)
        if read_attempts(cell_dir).is_pruned:
            raise typer.Exit(ExitCode.DONE)
        write_output_to_log(cell_dir)
        pin_cores()
        end_with_parent()
        record_start(cell_dir, place_of_process(), run.last_saved_generation())
        exit_code = _train(cell_dir, max_time, interrupts)
        try:
            record_end(cell_dir, exit_code)
        except EvoconnError as error:  # the exit code tells as well
            show_error(error)
    raise typer.Exit(exit_code)


def _train(cell_dir: Path, max_time: str | None, interrupts: Interrupts) -> int:
    """Resumes the run, and returns the exit code."""
    try:
        from evoconn_cli.commands.train import run_training, says_finished

        if says_finished(cell_dir, []):
            return ExitCode.DONE

        def reopen(processes: Processes) -> TrainingRun:
            from evoconn_cli.training.opening import reopen_run

            return reopen_run(cell_dir, [], processes=processes)

        sys.argv = ["evoconn", "resume", str(cell_dir)]  # recorded in run.json
        run_training(reopen, TrainingOptions(max_time=max_time), interrupts)
        return ExitCode.DONE
    except KeyboardInterrupt:
        return ExitCode.QUIT
    except RunBusyError as error:
        show_failure(error)
        return ExitCode.SAVED_EARLY
    except Exception as failure:
        return show_failure(failure)[1]
