"""The interquartile mean and its bootstrap against SciPy and against what must hold."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evoconn_cli.evaluation.statistics import bootstrap_iqm, interquartile_mean, summarize

VALUES = arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e4, 1e4))


@given(VALUES)
def test_the_interquartile_mean_is_the_trimmed_mean_of_the_source(values):
    np.testing.assert_allclose(interquartile_mean(values), scipy.stats.trim_mean(values, 0.25), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([7], 7), ([1, 3], 2), ([0, 1, 3, 100], 2), ([9, 1, 2, 3, 4, 5, 6, 7], 4.5), ([1, 2, 3, 4, 1000], 3)],
)
def test_the_interquartile_mean_by_hand(values, expected):
    assert interquartile_mean(np.asarray(values, float)) == expected


def test_the_interval_is_that_of_a_percentile_bootstrap():
    values = np.random.default_rng(3).gamma(2.0, 100.0, size=80)
    other = scipy.stats.bootstrap(
        (values,),
        lambda x, axis: scipy.stats.trim_mean(x, 0.25, axis=axis),
        method="percentile",
        confidence_level=0.95,
        n_resamples=10_000,
        random_state=np.random.default_rng(4),
    ).confidence_interval
    interval = bootstrap_iqm([values], seed=0)
    width = other.high - other.low
    assert abs(interval.low - other.low) < 0.05 * width
    assert abs(interval.high - other.high) < 0.05 * width


def test_values_are_resampled_within_their_stratum():
    """Tasks that differ and runs that do not: nothing varies, unless runs were drawn from all tasks together."""
    strata = [np.full(4, 10.0), np.full(4, 1000.0)]
    assert bootstrap_iqm(strata, seed=0) == (505.0, 505.0)
    together = bootstrap_iqm([np.concatenate(strata)], seed=0)
    assert together.high - together.low > 100


def test_strata_may_have_different_sizes():
    strata = [np.array([1.0, 2.0, 3.0]), np.array([5.0])]
    interval = bootstrap_iqm(strata, seed=0)
    assert 1.0 <= interval.low < interval.high <= 4.0


def test_the_interval_follows_from_the_seed():
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap_iqm([values], seed=1) == bootstrap_iqm([values], seed=1)
    assert bootstrap_iqm([values], seed=1) != bootstrap_iqm([values], seed=2)


def test_single_values_have_no_interval():
    assert bootstrap_iqm([np.array([3.0]), np.array([4.0])], seed=0) is None
    assert summarize(np.array([3.0]), seed=0).iqm_interval is None


def test_a_summary_by_hand():
    summary = summarize(np.array([4.0, 1.0, np.nan, 2.0, 3.0, np.inf], np.float32), seed=0)
    assert (summary.count, summary.failed) == (4, 2)
    assert (summary.minimum, summary.quartile_1, summary.median, summary.quartile_3, summary.maximum) == (
        1.0,
        1.75,
        2.5,
        3.25,
        4.0,
    )
    assert (summary.mean, summary.iqm) == (2.5, 2.5)
    assert summary.std == pytest.approx(np.sqrt(5 / 3))


def test_a_summary_of_failures_has_no_figures():
    summary = summarize(np.array([np.nan, np.inf]), seed=0)
    assert (summary.count, summary.failed, summary.iqm_interval) == (0, 2, None)
    assert np.isnan(summary.mean) and np.isnan(summary.iqm) and np.isnan(summary.std)


def test_the_interval_of_many_values_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    samples = [bootstrap_iqm([rng.normal(size=60)], seed) for seed in range(100)]
    covered = sum(interval.low <= 0.0 <= interval.high for interval in samples)
    assert 86 <= covered <= 100
