"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

POLICIES = ("deterministic", "sampled")
"""How a saved policy uses its probabilities: those above 0.5 are connections, or connections are drawn."""

Devices = Annotated[Optional[int], typer.Option(help="GPUs, or cores of a CPU; all by default.", show_default=False)]
Wandb = Annotated[
    Optional[str], typer.Option(metavar="MODE", help="W&B: auto, online, offline, disabled.", show_default=False)
]
MaxTime = Annotated[
    Optional[str],
    typer.Option(metavar="TIME", help="Save and exit with 75 before this is over, such as 3h50m.", show_default=False),
]
Distributed = Annotated[
    bool, typer.Option("--distributed", help="Train in all processes that the cluster (such as SLURM) has started.")
]
Coordinator = Annotated[
    Optional[str],
    typer.Option(metavar="HOST:PORT", help="Train in several processes: address of process 0.", show_default=False),
]
NumProcesses = Annotated[Optional[int], typer.Option(min=1, help="How many there are.", show_default=False)]
ProcessId = Annotated[Optional[int], typer.Option(min=0, help="Which one this is, from 0.", show_default=False)]


def to_overrides(options: dict[str, object]) -> list[str]:
    """Returns the options that were given as `KEY=VALUE` entries, from `{key: value or None}`."""
    return [f"{key}={value}" for key, value in options.items() if value is not None]
