"""How a connectome moved over the checkpoints of a run: its statistics, and how many connections changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evoconn_cli.export.analysis.statistics import Statistics, as_json
from evoconn_cli.export.connectome import Connectome


def changed_connections(connectomes: Sequence[Connectome]) -> list[dict[str, float]]:
    """Returns by kernel, for every step but the first, the share of connections that differ from the step before."""
    return [
        {name: float((after.kernels[name] != before.kernels[name]).mean()) for name in after.kernels}
        for before, after in zip(connectomes[:-1], connectomes[1:], strict=True)
    ]


def agreement_with_last(connectomes: Sequence[Connectome]) -> list[dict[str, float]]:
    """Returns by kernel, for every step, the share of connections that are as they are in the last step."""
    last = connectomes[-1].kernels
    return [{name: float((one.kernels[name] == last[name]).mean()) for name in last} for one in connectomes]


def evolution_as_json(connectomes: Sequence[Connectome], statistics: Sequence[Statistics]) -> dict[str, Any]:
    """Returns what a file with the statistics of several steps holds.

    Args:
        connectomes: by generation.
        statistics: of each of them.
    """
    changed = [None, *changed_connections(connectomes)]
    agreement = agreement_with_last(connectomes)
    return {
        "steps": [
            {**as_json(one), "changed_since_step_before": before, "agreement_with_last_step": last}
            for one, before, last in zip(statistics, changed, agreement, strict=True)
        ]
    }


def share_excitatory(statistics: Statistics) -> np.ndarray:
    """Returns `[A]`, the excitatory share of the connections onto each action; NaN for an action without any."""
    counts = np.array([[action["E"], action["I"]] for action in statistics.onto_actions], float)
    total = counts.sum(axis=1)
    return counts[:, 0] / np.where(total > 0, total, np.nan)
