"""Saved runs that are exported, with an episode long enough for neurons to spike."""

from __future__ import annotations

from pathlib import Path

from saved_runs import save_run

from evoconn_cli.config.formats import ExportOptions
from evoconn_cli.evaluation.exporting import make_source, open_steps
from evoconn_cli.export.connectome import ExportSource

DENSE = ("algo.name=es", "network.name=dense_snn")


def recorded_source(path: Path, *overrides: str, **options) -> ExportSource:
    """Returns the last checkpoint of a new run with 70 neurons, and its episode of 20 steps."""
    save_run(path, "network.num_neurons=70", "task.episode_length=20", *overrides, eval_fitness={2: 1.0})
    return make_source(
        open_steps(path, None), policy="deterministic", seed=3, max_steps=None, options=ExportOptions(**options)
    )
