"""Histograms of what is learned and of the members, against NumPy."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from evoconn_cli.training.histograms import histograms_of


def of_strategy(**fields) -> SimpleNamespace:
    return SimpleNamespace(strategy=SimpleNamespace(**fields))


def test_probabilities_have_the_same_bins_in_every_generation():
    probs = {"input": np.array([[0.0, 0.1], [0.6, 1.0]], np.float32), "output": np.full((3, 1), 0.5, np.float32)}
    found = histograms_of(of_strategy(probs=probs), {})
    assert found.keys() == {"probabilities/input", "probabilities/output"}
    for name, values in probs.items():
        one = found[f"probabilities/{name}"]
        assert np.array_equal(one.counts, np.histogram(values, 64, (0, 1))[0])
        assert np.array_equal(one.edges, np.linspace(0, 1, 65))
    assert np.isclose(found["probabilities/input"].sum, 1.7) and np.isclose(found["probabilities/output"].sum, 1.5)


def test_weights_and_members_and_no_values_that_are_not_finite():
    members = {
        "member_fitness": np.array([1.0, np.nan, 3.0, -np.inf]),
        "member_steps": np.array([10, 0, 5, 20]),
        "member_rate": np.array([0.5, 0.0, 0.1, 0.0]),  # sums over the steps [1/ms]
    }
    found = histograms_of(of_strategy(center={"w": {"b": np.array([-1.0, 2.0])}}), members)
    assert found.keys() == {"weights/w/b", "fitness", "spikes_per_second"}
    assert found["fitness"].counts.sum() == 2 and found["fitness"].sum == 4.0
    rates = np.array([50.0, 0.0, 20.0, 0.0])
    assert np.array_equal(found["spikes_per_second"].counts, np.histogram(rates, 64)[0])
    assert found["spikes_per_second"].sum_squares == 2900.0


def test_networks_that_do_not_spike_have_no_rates():
    members = {"member_fitness": np.ones(2), "member_steps": np.ones(2), "member_rate": np.zeros(2)}
    assert histograms_of(of_strategy(probs={}), members).keys() == {"fitness"}
