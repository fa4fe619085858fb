"""Histograms of what a run learns and how its members behave, for the trackers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import keystr

from evoconn_cli.engine.state import RunState

_BINS = 64


class Histogram(NamedTuple):
    """Counts of values between edges, and what a mean and a standard deviation need."""

    counts: np.ndarray  # [bins] int
    edges: np.ndarray  # [bins + 1] float
    sum: float
    sum_squares: float


def histograms_of(state: RunState, members: Mapping[str, np.ndarray]) -> dict[str, Histogram]:
    """Returns histograms by name; values that are not finite are left out.

    These are the probabilities of each layer (for strategies with real weights, the centre), the fitness of the
    members, and, of spiking networks, the mean rate of the neurons of each member [spikes/s].

    Args:
        state: State after a generation; its arrays are copied to the host, a few megabytes at most.
        members: `MEMBER_METRICS` of that generation, without evaluation copies, `[M]`; may be empty.
    """
    strategy: Any = state.strategy
    if (learned := getattr(strategy, "probs", None)) is not None:
        kind, limits = "probabilities", (0.0, 1.0)
    else:
        kind, learned, limits = "weights", getattr(strategy, "center", {}), None
    found = {
        keystr(path, simple=True, separator="/"): _histogram(values, limits)
        for path, values in jax.tree_util.tree_leaves_with_path({kind: jax.device_get(learned)})
    }
    if members:
        found["fitness"] = _histogram(members["member_fitness"])
        if members["member_rate"].any():
            rates = 1000 * members["member_rate"] / np.maximum(members["member_steps"], 1)
            found["spikes_per_second"] = _histogram(rates)
    return {name: histogram for name, histogram in found.items() if histogram is not None}


def _histogram(values: np.ndarray, limits: tuple[float, float] | None = None) -> Histogram | None:
    """Returns the histogram of the finite values, between `limits` or all of them; None if there is none."""
    if values.dtype.kind not in "fiu":  # of a plug-in
        return None
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return None
    try:
        counts, edges = np.histogram(finite, _BINS, limits)
    except ValueError:  # their range is too small for float64
        return None
    return Histogram(counts, edges, float(finite.sum()), float(np.square(finite).sum()))
