"""What holds for every network."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evoconn_cli.config.registry import names
from evoconn_cli.config.schema import ConnSnnConfig, DenseSnnConfig
from evoconn_cli.networks import bits
from evoconn_cli.networks.conn_snn import make_conn_snn
from evoconn_cli.networks.dense_snn import make_dense_snn
from evoconn_cli.networks.flax_networks import make_flax_network

OBS, A, N, B = 5, 2, 24, 6

SIZES = dict(observation_size=OBS, action_size=A)
BOOLEAN, REAL = ConnSnnConfig("conn_snn", N, gain_in=0.5), DenseSnnConfig("dense_snn", N, gain_in=0.5)
MAKERS = {
    "conn_snn": lambda: make_conn_snn(BOOLEAN, **SIZES, one_by_one=False),
    "conn_snn one by one": lambda: make_conn_snn(BOOLEAN, **SIZES),
    "dense_snn": lambda: make_dense_snn(REAL, **SIZES),
    **{name: (lambda name=name: make_flax_network(name, **SIZES, num_neurons=N)) for name in ("gru", "lstm", "mlp")},
}


@pytest.fixture(params=[*names("network"), "conn_snn one by one"])
def network(request):
    return MAKERS[request.param]()


def candidates_of(network, key, num_members=B):
    """Returns random candidates in the form that a strategy gives them."""
    if network.initial_weights is not None:
        return jax.vmap(network.initial_weights)(jax.random.split(key, num_members))
    return {
        name: bits.pack(jax.random.bernoulli(jax.random.fold_in(key, i), 0.5, (num_members, *layer.shape)), axis=1)
        for i, (name, layer) in enumerate(network.shapes.items())
    }


def rollout(network, candidates, keys, observations, compiled=True):
    """Returns the actions `[T, B, A]` and the last carry."""
    params, carry, actions = network.prepare(candidates), network.initial_carry(keys), []
    step = jax.jit(network.step) if compiled else network.step
    for obs in observations:
        carry, action = step(params, carry, obs)
        actions.append(action)
    return jnp.stack(actions), carry


@pytest.fixture
def observations():
    return jax.random.normal(jax.random.key(3), (4, B, OBS))


@pytest.mark.slow
def test_shapes_and_dtypes(network, observations):
    keys = jax.random.split(jax.random.key(1), B)
    actions, carry = rollout(network, candidates_of(network, jax.random.key(0)), keys, observations)
    assert actions.shape == (4, B, A) and actions.dtype == jnp.float32
    assert bool(jnp.all(jnp.isfinite(actions))) and float(jnp.abs(actions).max()) > 0
    fresh = network.initial_carry(keys)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), carry) == jax.tree.map(lambda x: (x.shape, x.dtype), fresh)
    if network.spikes_per_ms is not None:
        assert network.spikes_per_ms(carry).shape == (B,)


@pytest.mark.slow
def test_a_member_does_not_depend_on_its_neighbours(network, observations):
    candidates = candidates_of(network, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), B)
    together, _ = rollout(network, candidates, keys, observations)
    for member in range(B):
        one = slice(member, member + 1)
        own = jax.tree.map(lambda x, one=one: x[one], candidates)
        alone, _ = rollout(network, own, keys[one], observations[:, one])
        np.testing.assert_allclose(alone[:, 0], together[:, member], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_jit_changes_nothing_that_matters(network, observations):
    candidates = candidates_of(network, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), B)
    plain, _ = rollout(network, candidates, keys, observations, compiled=False)
    jitted, _ = rollout(network, candidates, keys, observations)
    np.testing.assert_allclose(jitted, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_network_remembers_unless_it_is_feed_forward(network, observations):
    candidates = candidates_of(network, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), B)
    other = observations.at[0].add(1.0)
    last = [rollout(network, candidates, keys, obs)[0][-1] for obs in (observations, other)]
    assert np.array_equal(*last) == (network.name == "mlp")


@pytest.mark.slow
def test_the_number_of_parameters_is_that_of_a_member(network):
    candidates = candidates_of(network, jax.random.key(0), num_members=1)
    if network.initial_weights is not None:
        assert network.num_parameters == sum(x.size for x in jax.tree.leaves(candidates))
    else:
        assert network.num_parameters == 2 * OBS * N + N * N + N * A


@pytest.fixture(params=["conn_snn", "conn_snn, one by one", "dense_snn"])
def spiking(request):
    if request.param == "conn_snn, one by one":
        return MAKERS["conn_snn one by one"]()
    return MAKERS[request.param]()


def bits_of(tree):
    """Returns the arrays of `tree` as whole numbers, so that equal means equal to the last bit."""
    return [np.asarray(x).view(np.uint32 if x.dtype.itemsize == 4 else np.uint8) for x in jax.tree.leaves(tree)]


@pytest.mark.slow
def test_recording_changes_no_bit(spiking, observations):
    candidates = candidates_of(spiking, jax.random.key(0))
    params = spiking.prepare(candidates)
    step, record = jax.jit(spiking.step), jax.jit(spiking.record)
    carry = recorded = spiking.initial_carry(jax.random.split(jax.random.key(1), B))
    fired = 0
    for obs in observations:
        carry, action = step(params, carry, obs)
        recorded, same_action, activity = record(params, recorded, obs)
        for a, b in zip(bits_of((carry, action)), bits_of((recorded, same_action)), strict=True):
            np.testing.assert_array_equal(a, b)
        last = carry.spikes if carry.spikes.dtype == bool else bits.unpack(carry.spikes, axis=1, length=N)
        np.testing.assert_array_equal(activity.spikes[-1], last)
        np.testing.assert_array_equal(activity.rate, carry.neurons.rate)
        fired += int(activity.spikes.sum())
    assert activity.spikes.shape == (33, B, N) and activity.spikes.dtype == bool
    assert 0 < fired < 4 * activity.spikes.size
    assert activity.updates.shape == (B, N) and 0 < int(activity.updates.min()) <= int(activity.updates.max()) <= 33


@pytest.mark.slow
def test_a_potential_that_rests_is_not_updated(spiking):
    """Without any connection nothing moves a neuron that starts at rest."""
    nothing = jax.tree.map(jnp.zeros_like, candidates_of(spiking, jax.random.key(0)))
    carry = spiking.initial_carry(jax.random.split(jax.random.key(1), B))
    half = jnp.where(jnp.arange(N) < N // 2, 0.0, carry.neurons.v)
    carry = carry._replace(neurons=carry.neurons._replace(v=half))
    _, _, activity = spiking.record(spiking.prepare(nothing), carry, jnp.ones((B, OBS)))
    np.testing.assert_array_equal(activity.updates, np.broadcast_to(np.where(np.arange(N) < N // 2, 0, 33), (B, N)))


@pytest.mark.slow
def test_recorded_spikes_give_the_read_out_rate(spiking, observations):
    """The rate is the exponential trace of the signed spikes, so it can be had from the record alone."""
    params = spiking.prepare(candidates_of(spiking, jax.random.key(0)))
    carry = spiking.initial_carry(jax.random.split(jax.random.key(1), B))
    sign = np.where(np.arange(N) < N // 2, 1.0, -1.0) if spiking.name == "conn_snn" else np.ones(N)
    alpha, rate = np.exp(-0.5 / 10.0), np.zeros((B, N))
    for obs in observations:
        carry, _, activity = spiking.record(params, carry, obs)
        for spikes in np.asarray(activity.spikes):
            rate = alpha * rate + (1 - alpha) * spikes * sign / 0.5
    np.testing.assert_allclose(activity.rate, rate, rtol=1e-4, atol=1e-6)


def test_the_recorded_input_current_is_that_of_the_observation():
    network = MAKERS["dense_snn"]()
    weights = candidates_of(network, jax.random.key(0))
    obs = jax.random.normal(jax.random.key(5), (B, OBS))
    _, _, activity = network.record(weights, network.initial_carry(jax.random.split(jax.random.key(1), B)), obs)
    expected = np.einsum("bo,bon->bn", obs, weights["kernel_in"]) * 0.5 * 10.0 * np.sqrt(2.0 / OBS)
    np.testing.assert_allclose(activity.i_in, expected, rtol=1e-5, atol=1e-5)


def test_networks_without_spikes_record_nothing(network):
    assert (network.record is None) == (network.spikes_per_ms is None)
