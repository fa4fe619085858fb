"""Options that several commands have."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from evoconn_cli.commands.completion import one_of
from evoconn_cli.config.names import WANDB_MODES
from evoconn_cli.errors import unknown_name

POLICIES = ("deterministic", "sampled")
"""How a saved policy uses its probabilities: those above 0.5 are connections, or connections are drawn."""

PLACES = ("local", "slurm", "ray")
"""Where `launch-grid` runs cells."""

Policy = Annotated[
    str,
    typer.Option(
        metavar="POLICY",
        help="deterministic: p > 0.5; sampled: connections drawn as in training, anew for each episode.",
        autocompletion=one_of(*POLICIES),
    ),
]
Devices = Annotated[int | None, typer.Option(help="GPUs, or cores of a CPU; all by default.", show_default=False)]
Wandb = Annotated[
    str | None,
    typer.Option(
        metavar="MODE",
        help=f"W&B: {', '.join(WANDB_MODES)}; auto unless configured.",
        autocompletion=one_of(*WANDB_MODES),
        show_default=False,
    ),
]
MaxTime = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Save and exit with 75 before this is over, such as 3h50m.", show_default="no limit"
    ),
]
Distributed = Annotated[
    bool, typer.Option("--distributed", help="Train in all processes that the cluster (such as SLURM) has started.")
]
Coordinator = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Train in several processes: address of process 0.", show_default=False),
]
NumProcesses = Annotated[int | None, typer.Option(min=1, help="Number of processes.", show_default=False)]
ProcessId = Annotated[int | None, typer.Option(min=0, help="Number of this process, from 0.", show_default=False)]


def check_policy(name: str) -> None:
    """Checks the name of a policy.

    Raises:
        ConfigError: it is unknown.
    """
    if name not in POLICIES:
        raise unknown_name("policy", name, POLICIES)


def to_overrides(options: dict[str, object]) -> list[str]:
    """Returns the options that were given as `KEY=VALUE` entries, from `{key: value or None}`; texts are quoted."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in options.items() if value is not None]
