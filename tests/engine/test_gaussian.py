"""Strategy es."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_configs import es_config

from evoconn_cli.engine.strategies.gaussian import GaussianState, make_gaussian
from evoconn_cli.engine.strategies.shaping import doubled_centered_ranks

SIGMA, M = 0.3, 64


def make(shape=(6, 5), **options):
    config = es_config(**dict(num_members=M, sigma=SIGMA, learning_rate=0.15, weight_decay=0.1) | options)
    return make_gaussian(config, lambda key: {"w": jax.random.normal(key, shape)})


@pytest.mark.slow
def test_updates_are_the_published_ones(golden):
    arrays = golden("es_update")
    strategy = make(sigma=float(arrays["sigma"]), learning_rate=float(arrays["lr"]))
    state = strategy.init(jax.random.key(0))
    state = GaussianState({"w": jnp.asarray(arrays["p"][0])}, state.adam)
    for generation, (noise, fitness) in enumerate(zip(arrays["noise"], arrays["fitness"], strict=True)):
        # There all plus members come first; here a pair stands together.
        signed = np.stack([noise, -noise], axis=1).reshape(M, 6, 5)
        fitness = np.stack(np.split(fitness, 2), axis=1).reshape(M)
        ranks = doubled_centered_ranks(jnp.asarray(fitness))
        sums = strategy.weighted_sums(state, {"w": state.center["w"] + signed}, ranks)
        np.testing.assert_allclose(sums["w"] / (M * (M - 1)), -arrays["grad"][generation], rtol=1e-4, atol=1e-6)
        state, _ = strategy.tell(state, sums, ranks)
        np.testing.assert_allclose(state.center["w"], arrays["p"][generation + 1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_pairs_are_antithetic_and_each_draw_follows_from_its_member_alone():
    strategy = make()
    state, key = strategy.init(jax.random.key(0)), jax.random.key(1)
    drawn = strategy.ask(key, state, jnp.arange(M))["w"]
    noise = drawn - state.center["w"]
    np.testing.assert_allclose(noise[0::2], -noise[1::2], atol=1e-6)
    np.testing.assert_array_equal(strategy.ask(key, state, jnp.array([9, 4]))["w"], drawn[jnp.array([9, 4])])
    assert abs(float(noise.std()) / SIGMA - 1) < 5 / (M * 30) ** 0.5


@pytest.mark.slow
def test_without_a_signal_the_snr_is_about_zero_and_with_one_it_is_not():
    strategy = make(shape=(40, 25))
    state = strategy.init(jax.random.key(0))
    snr = []
    for seed in range(20):
        drawn = strategy.ask(jax.random.key(seed), state, jnp.arange(M))
        ranks = doubled_centered_ranks(jax.random.normal(jax.random.key(100 + seed), (M,)))
        snr.append(float(strategy.tell(state, strategy.weighted_sums(state, drawn, ranks), ranks)[1]["update_snr"]))
    assert abs(np.mean(snr)) < 0.05
    strategy = make()
    state = strategy.init(jax.random.key(0))
    drawn = strategy.ask(jax.random.key(1), state, jnp.arange(M))
    ranks = doubled_centered_ranks(drawn["w"].sum((1, 2)))
    sums = strategy.weighted_sums(state, drawn, ranks)
    assert strategy.tell(state, sums, ranks)[1]["update_snr"] > 0.5


@pytest.mark.slow
def test_weights_decay_when_fitness_says_nothing():
    strategy = make()
    state = strategy.init(jax.random.key(0))
    ranks = jnp.zeros((M,), jnp.int32)
    drawn = strategy.ask(jax.random.key(1), state, jnp.arange(M))
    after, _ = strategy.tell(state, strategy.weighted_sums(state, drawn, ranks), ranks)
    np.testing.assert_allclose(after.center["w"], state.center["w"] * (1 - 0.15 * 0.1), rtol=1e-6)


def test_metrics_are_sigma_and_the_length_of_the_center():
    strategy = make()
    state = strategy.init(jax.random.key(0))
    metrics = strategy.metrics(state)
    assert metrics["sigma"] == np.float32(SIGMA)
    np.testing.assert_allclose(metrics["center_norm"], np.linalg.norm(np.asarray(state.center["w"])), rtol=1e-6)


def test_an_odd_number_of_members_is_refused():
    with pytest.raises(ValueError, match="even"):
        make(num_members=63)
