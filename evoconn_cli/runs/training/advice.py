"""What a user should know about the speed of a run before waiting for it."""

from __future__ import annotations

from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.runs.progress.formatting import count, duration

_LONG_RUN = 3600.0
"""Runs that take longer than this on a CPU deserve a word [s]."""


def speed_advice(config: RunConfig, workers: WorkerMesh, start: int, seconds: float) -> str | None:
    """Returns what to tell after a first generation of `seconds` beyond `start`, None where there is nothing to say."""
    if workers.first_device.platform != "cpu":
        return None
    left = config.algo.generations - start
    expected = seconds * left
    if expected < _LONG_RUN:
        return None
    return (
        f"{count(left)} generations like the first take {duration(expected)} on this CPU, and they "
        "get slower as episodes get longer. Use a GPU, or --config laptop for a run of minutes."
    )
