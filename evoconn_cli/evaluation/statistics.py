"""Statistics of returns: robust means and how far to trust them.

Source: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021: the
interquartile mean and the percentile bootstrap, stratified by task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95

LEVEL = f"{100 * CONFIDENCE:.0f} %"
"""The confidence in words."""

_RESAMPLES = 10_000
_CHUNK = 4_000_000
"""Numbers resampled at once, to bound the memory."""


class Interval(NamedTuple):
    """A percentile bootstrap interval of `CONFIDENCE`."""

    low: float
    high: float


class Summary(NamedTuple):
    """Summary of a set of values; those that are not finite are counted and left out."""

    count: int  # finite values
    failed: int  # values that are not finite
    mean: float
    std: float  # of the sample, with n - 1; 0 for a single value
    minimum: float
    quartile_1: float
    median: float
    quartile_3: float
    maximum: float
    iqm: float
    iqm_interval: Interval | None  # None for fewer than two values


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Returns the mean of the middle half of `values` `[..., n]` along the last axis.

    As in the source, `int(n / 4)` values are cut off at each end.
    """
    cut = values.shape[-1] // 4
    ordered = np.sort(values, axis=-1)
    return ordered[..., cut : values.shape[-1] - cut].mean(axis=-1)


def bootstrap_iqm(strata: Sequence[np.ndarray], seed: int) -> Interval | None:
    """Returns the interval of the interquartile mean over all values of all strata.

    Values are drawn with replacement within their stratum, as many as it has. None if no stratum has more than one
    value, because then nothing varies.

    Args:
        strata: Finite values `[n]` each: the scores of the runs of a task, or the returns of a run's episodes.
        seed: Random seed of the resampling.
    """
    if all(len(values) < 2 for values in strata):
        return None
    rng = np.random.default_rng(seed)
    total = sum(len(values) for values in strata)
    rows = max(1, _CHUNK // total)
    means = []
    for start in range(0, _RESAMPLES, rows):
        num = min(rows, _RESAMPLES - start)
        drawn = [values[rng.integers(len(values), size=(num, len(values)))] for values in strata]
        means.append(interquartile_mean(np.concatenate(drawn, axis=1)))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return Interval(float(low), float(high))


def summarize(values: np.ndarray, seed: int) -> Summary:
    """Returns the summary of `values` `[n]`; NaN everywhere if none is finite.

    Args:
        values: Any numbers.
        seed: Random seed of the bootstrap.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    failed = len(values) - len(finite)
    known = finite if len(finite) else np.full(1, np.nan)
    low, quartile_1, median, quartile_3, high = np.percentile(known, [0, 25, 50, 75, 100]).tolist()
    return Summary(
        count=len(finite),
        failed=failed,
        mean=float(known.mean()),
        std=float(known.std(ddof=1)) if len(known) > 1 else 0.0 * float(known[0]),
        minimum=low,
        quartile_1=quartile_1,
        median=median,
        quartile_3=quartile_3,
        maximum=high,
        iqm=float(interquartile_mean(known)),
        iqm_interval=bootstrap_iqm([finite], seed),
    )
