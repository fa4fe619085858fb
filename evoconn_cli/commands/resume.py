"""`evoconn resume`: continues a run from its latest checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from evoconn_cli.commands.options import (
    TrainingOptions,
    argument,
    complete_run,
    entries_argument,
    flag,
    option,
    steps_of,
    takes,
    to_overrides,
)

if TYPE_CHECKING:
    from evoconn_cli.training.opening import TrainingRun
    from evoconn_cli.training.processes import Processes


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResumeOptions(TrainingOptions):
    """Arguments and options of `evoconn resume`."""

    run_dir: Annotated[
        Path, argument("RUN_DIR", "Directory of the run, or latest: the one trained last.", complete=complete_run)
    ]
    overrides: Annotated[
        list[str],
        entries_argument(
            "Keys of checkpoint and tracking, of algo those that end a run, engine.devices or engine.kernel."
        ),
    ] = dataclasses.field(default_factory=list)
    generations: Annotated[int | None, option("N", "Train up to this generation.", default="as configured")] = None
    from_step: Annotated[
        int | None,
        option(
            "N",
            "Resume from this saved generation, 0 for the beginning; later ones go to set-aside/.",
            min=0,
            complete=steps_of("0"),
            default="latest",
        ),
    ] = None
    discard_later: Annotated[bool, flag("--discard-later", "With --from-step: delete later checkpoints.")] = False


@takes(ResumeOptions)
def resume(options: ResumeOptions) -> None:
    """Resume a run from its latest checkpoint, as if it had never stopped.

    [bold]Examples[/bold]

      evoconn resume latest

      evoconn resume runs/hopper-ec --generations 500

      evoconn resume runs/hopper-ec --from-step 200 checkpoint.every=10
    """
    from evoconn_cli.commands.train import run_training, says_finished
    from evoconn_cli.errors import ConfigError
    from evoconn_cli.runs.listing import named_run

    run_dir, from_step = named_run(options.run_dir), options.from_step
    if options.discard_later and from_step is None:
        raise ConfigError("--discard-later goes with --from-step, which says what is later.")
    keys = {"algo.generations": options.generations, "engine.devices": options.devices, "tracking.wandb": options.wandb}
    entries = [*to_overrides(keys), *options.overrides]
    if options.trains_alone and from_step is None and says_finished(run_dir, entries):
        return

    def reopen(processes: Processes) -> TrainingRun:
        from evoconn_cli.training.opening import reopen_run

        return reopen_run(
            run_dir, entries, from_step=from_step, discard_later=options.discard_later, processes=processes
        )

    run_training(reopen, options)
