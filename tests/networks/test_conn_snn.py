"""The packed spiking network against golden arrays and against dense matrices in plain numpy."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evoconn_cli.config.schema import ConnSnnConfig
from evoconn_cli.networks import bits, spike_counts
from evoconn_cli.networks.conn_snn import make_conn_snn
from evoconn_cli.networks.lif import LifConstants


class Constants(NamedTuple):
    """All that the equations name, under the names of the keys; the paper's values."""

    excitatory_ratio: float = 0.5
    expected_density: float = 0.5
    wiring: float = 1.0
    gain_in: float = 0.1
    gain_recurrent: float = 1.0
    gain_out: float = 5.0
    tau_syn_ms: float = 5.0
    tau_m_ms: float = 10.0
    tau_out_ms: float = 10.0
    dt_ms: float = 0.5
    step_ms: float = 16.6
    v_rest: float = 0.0
    v_threshold: float = 1.0


PAPER = Constants()
UNUSUAL = Constants(0.3, 0.2, 0.7, 0.25, 0.7, 3.0, 4.0, 12.0, 8.0, 0.25, 5.1, -0.5, 0.8)
assert all(a != b for a, b in zip(PAPER, UNUSUAL, strict=True)), "every constant differs once"


def make_network(c: Constants, num_observations: int, num_actions: int, num_neurons: int, one_by_one: bool = True):
    config = ConnSnnConfig("conn_snn", num_neurons, **c._asdict())
    return make_conn_snn(config, observation_size=num_observations, action_size=num_actions, one_by_one=one_by_one)


class Step(NamedTuple):
    """State after an environment step, members first."""

    v: np.ndarray
    i_syn: np.ndarray
    rate: np.ndarray
    spikes: np.ndarray  # bool
    action: np.ndarray


def simulate(c: Constants, layers, v0, obs, one_by_one: bool = True) -> list[Step]:
    """Returns what the package gives for observations `[T, B, O]`."""
    num_neurons = v0.shape[1]
    sizes = layers["input"].shape[1] // 2, layers["output"].shape[2]
    run = _compiled(c, sizes, num_neurons, one_by_one)
    steps = run({name: jnp.asarray(layer) for name, layer in layers.items()}, jnp.asarray(v0), jnp.asarray(obs))
    return [Step(*parts) for parts in zip(*(np.asarray(x) for x in steps), strict=True)]


@functools.cache
def _compiled(c: Constants, sizes: tuple[int, int], num_neurons: int, one_by_one: bool):
    network = make_network(c, *sizes, num_neurons, one_by_one)

    @jax.jit
    def run(layers, v0, obs):
        params = network.prepare({name: bits.pack(layer, axis=1) for name, layer in layers.items()})
        carry = network.initial_carry(jax.random.split(jax.random.key(0), v0.shape[0]))
        carry = carry._replace(neurons=carry.neurons._replace(v=v0))

        def step(carry, obs):
            carry, action = network.step(params, carry, obs)
            spikes = bits.unpack(carry.spikes, axis=1, length=num_neurons)
            return carry, Step(*carry.neurons, spikes, action)

        return jax.lax.scan(step, carry, obs)[1]

    return run


def simulate_plainly(c: Constants, layers, v0, obs) -> tuple[list[Step], list[float]]:
    """Returns the same by dense products in float64, and how near a potential came to the threshold in each step.

    A spike may rightly differ where a potential lies on the threshold to within the rounding of float32, and
    everything may differ after that.
    """
    k_in, k_rec, k_out = (layers[name].astype(np.float64) for name in ("input", "recurrent", "output"))
    num_neurons, num_inputs = k_rec.shape[1], k_in.shape[1] // 2
    density = c.expected_density * c.wiring
    r_in = c.gain_in * c.v_threshold * c.tau_m_ms * math.sqrt(2 / (density * num_inputs))
    r = c.gain_recurrent * c.v_threshold * c.tau_m_ms / c.tau_syn_ms
    r *= math.sqrt(2 / (density * num_neurons))
    r_out = c.gain_out * math.sqrt(1 / (density * num_neurons))
    a_syn, a_m, a_out = (math.exp(-c.dt_ms / tau) for tau in (c.tau_syn_ms, c.tau_m_ms, c.tau_out_ms))
    sign = np.full(num_neurons, -1.0)
    sign[: round(num_neurons * c.excitatory_ratio)] = 1.0
    v, i_syn = v0.astype(np.float64), np.zeros(v0.shape)
    rate, s = np.zeros(v0.shape), np.zeros(v0.shape)
    steps, margins = [], []
    for o in obs.astype(np.float64):
        i_in = r_in * np.einsum("bin,bi->bn", k_in, np.concatenate([o, -o], axis=1))
        margin = np.inf
        for _ in range(round(c.step_ms / c.dt_ms)):
            i_syn = a_syn * i_syn + r * np.einsum("bpn,bp->bn", k_rec, s)
            t = c.v_rest + i_syn + i_in
            v = t + a_m * (v - t)
            margin = min(margin, np.min(np.abs(v - c.v_threshold) / (1 + np.abs(t))))
            spike = v > c.v_threshold
            v = np.where(spike, c.v_rest, v)
            s = spike * sign
            rate = s / c.dt_ms + a_out * (rate - s / c.dt_ms)
        steps.append(Step(v, i_syn, rate, spike, r_out * np.einsum("bna,bn->ba", k_out, rate)))
        margins.append(margin)
    return steps, margins


def random_case(c: Constants, num_neurons, observation_size, action_size, members, num_steps, seed, density=0.5):
    rng = np.random.default_rng(seed)
    shapes = {
        "input": (2 * observation_size, num_neurons),
        "recurrent": (num_neurons, num_neurons),
        "output": (num_neurons, action_size),
    }
    layers = {name: rng.random((members, *shape)) < density for name, shape in shapes.items()}
    v0 = rng.uniform(c.v_rest, c.v_threshold, (members, num_neurons)).astype(np.float32)
    obs = rng.normal(size=(num_steps, members, observation_size)).astype(np.float32)
    return layers, v0, obs


def assert_same(ours: Step, theirs: Step, rtol=1e-5):
    np.testing.assert_array_equal(ours.spikes, theirs.spikes)
    for name in ("v", "i_syn", "rate", "action"):
        a, b = getattr(ours, name), getattr(theirs, name)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1.0, np.abs(b).max()), err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("num_neurons", [5, 64, 255, 256, 300, 512])
@pytest.mark.parametrize(("spiking", "connected"), [(0.0, 0.5), (0.03, 0.5), (0.6, 1.0), (1.0, 1.0)])
def test_counts_by_bytes_and_by_words_are_those_of_a_product(num_neurons, spiking, connected):
    """Also where all of 256 neurons spike and reach another one: more than a byte can count."""
    rng = np.random.default_rng(num_neurons)
    layer = rng.random((num_neurons, num_neurons)) < connected
    spikes = rng.random(num_neurons) < spiking
    for inhibitory in (rng.random(num_neurons) < 0.5, np.zeros(num_neurons, bool)):
        rows, inverted = bits.pack(layer ^ inhibitory[:, None], axis=0), np.asarray(bits.pack(inhibitory, axis=0))
        packed = bits.pack(spikes, axis=0)
        expected = np.where(inhibitory, -1, 1) * spikes @ layer
        np.testing.assert_array_equal(spike_counts.count_words(rows, inverted, packed), expected)
        in_bytes = spike_counts.rows_of_bytes(rows)
        np.testing.assert_array_equal(spike_counts.count_words(in_bytes, inverted, packed), expected)
        count = functools.partial(spike_counts.count_spiking_bytes, in_bytes, inverted, packed)
        np.testing.assert_array_equal(count(overflow=True), expected)
        eight_words = np.arange(num_neurons) % bits.num_words(num_neurons) // 8
        reach = layer ^ inhibitory[:, None]
        most = max(np.sum(reach[eight_words == group], axis=0).max() for group in range(eight_words.max() + 1))
        assert spike_counts.may_overflow(rows[None]) == (most > 255)
        if most <= 255:
            np.testing.assert_array_equal(count(overflow=False), expected)


@pytest.mark.parametrize("name", ["small", "hopper", "humanoid"])
def test_golden_arrays(golden, name):
    arrays = golden(f"conn_snn_{name}")
    layers = {k: arrays[f"kernel_{short}"] for k, short in (("input", "in"), ("recurrent", "h"), ("output", "out"))}
    c = PAPER._replace(excitatory_ratio=float(arrays["excitatory_ratio"]))
    steps = simulate(c, layers, arrays["v_m0"], arrays["obs"])
    num_neurons = layers["recurrent"].shape[1]
    sign = np.where(np.arange(num_neurons) < num_neurons * c.excitatory_ratio, 1, -1)
    assert arrays["spike"].any()
    for t, step in enumerate(steps):
        # The published code keeps spikes signed.
        np.testing.assert_array_equal(step.spikes * sign, arrays["spike"][t])
        golden_step = [arrays[k][t] for k in ("v_m", "i_syn", "rate")]
        assert_same(step, Step(*golden_step, arrays["spike"][t] != 0, arrays["action"][t]))


# Numbers of neurons, observations and actions with a ratio; few, since each is compiled. Words are full, partly full,
# of one type of neurons or shared by both.
SIZES = [
    (1, 1, 1, 0.0),
    (7, 1, 3, 0.3),
    (31, 5, 2, 1.0),
    (33, 4, 2, 0.0),
    (50, 3, 17, 0.5),
    (64, 2, 1, 0.5),
    (80, 9, 3, 0.8),
]


@pytest.mark.slow
@settings(max_examples=40)
@given(sizes=st.sampled_from(SIZES), density=st.sampled_from([0.1, 0.5, 1.0]), seed=st.integers(0, 10_000))
def test_dense_products_give_the_same(sizes, density, seed):
    c = PAPER._replace(excitatory_ratio=sizes[3])
    case = random_case(c, *sizes[:3], members=3, num_steps=3, seed=seed, density=density)
    assume(compare_with_dense_products(c, case) > 0)


@pytest.mark.parametrize("sizes", [(45, 3, 2), (70, 5, 1)])
def test_every_constant_counts(sizes):
    case = random_case(UNUSUAL, *sizes, members=4, num_steps=3, seed=1)
    assert compare_with_dense_products(UNUSUAL, case) == 3
    plain = simulate_plainly(UNUSUAL, *case)[0][-1]
    for name, paper_value in PAPER._asdict().items():
        other = simulate_plainly(UNUSUAL._replace(**{name: paper_value}), *case)[0][-1]
        assert not np.allclose(other.action, plain.action, rtol=1e-3), f"the case is blind to {name}"


def compare_with_dense_products(c, case) -> int:
    """Compares up to the step in which a potential touches the threshold; returns how many steps."""
    theirs, margins = simulate_plainly(c, *case)
    near = [t for t, margin in enumerate(margins) if margin < 3e-6]
    num_clear = near[0] if near else len(margins)
    for a, b in zip(simulate(c, *case)[:num_clear], theirs, strict=False):
        assert_same(a, b, rtol=3e-5)
    return num_clear


@pytest.mark.slow
@pytest.mark.parametrize(("num_neurons", "excitatory_ratio"), [(40, 0.5), (64, 0.2), (1100, 0.5)])
def test_one_by_one_does_not_change_a_bit_of_the_neurons(num_neurons, excitatory_ratio):
    c = PAPER._replace(excitatory_ratio=excitatory_ratio)
    case = random_case(c, num_neurons, 3, 2, members=3, num_steps=3, seed=3)
    whole = simulate(c, *case, one_by_one=False)
    assert 0.0 < np.mean([step.spikes for step in whole]) < 0.5
    for a, b in zip(simulate(c, *case), whole, strict=True):
        assert [x.tobytes() for x in a[:-1]] == [x.tobytes() for x in b[:-1]]
        np.testing.assert_allclose(a.action, b.action, rtol=1e-5, atol=1e-6)


def test_every_neuron_may_reach_every_other_at_once():
    """All of 256 excitatory neurons spike, more than a byte can count, in one member of three."""
    c = PAPER._replace(excitatory_ratio=1.0)
    layers, v0, obs = random_case(c, 256, 3, 2, members=3, num_steps=2, seed=6)
    layers["recurrent"][1] = True
    layers["input"][1] = [[True]] * 3 + [[False]] * 3
    case = layers, v0, np.full_like(obs, 30.0)
    (step, *_), (whole, *_) = (simulate(c, *case, one_by_one=how) for how in (True, False))
    assert step.spikes[1].all()
    assert [x.tobytes() for x in step[:-1]] == [x.tobytes() for x in whole[:-1]]


@pytest.mark.slow
def test_members_that_are_not_active_are_passed_over():
    network = make_network(PAPER, 3, 2, 40)
    layers, _, (obs,) = random_case(PAPER, 40, 3, 2, members=4, num_steps=1, seed=5)
    params = network.prepare({name: bits.pack(jnp.asarray(layer), axis=1) for name, layer in layers.items()})
    before = network.initial_carry(jax.random.split(jax.random.key(0), 4))
    active = np.array([True, False, True, False])
    some, everyone = (
        network.step(params, before, jnp.asarray(obs), jnp.asarray(a))[0] for a in (active, active | True)
    )
    for ours, theirs, untouched in zip(*map(jax.tree.leaves, (some, everyone, before)), strict=True):
        np.testing.assert_array_equal(ours[active], theirs[active])
        np.testing.assert_array_equal(ours[~active], untouched[~active])
    assert not np.array_equal(everyone.neurons.v[~active], before.neurons.v[~active])


@pytest.mark.slow
def test_members_do_not_touch_each_other():
    layers, v0, obs = random_case(PAPER, 40, 3, 2, members=4, num_steps=2, seed=4)
    together = simulate(PAPER, layers, v0, obs)[-1]
    for m in range(4):
        alone = simulate(PAPER, {k: x[m : m + 1] for k, x in layers.items()}, v0[m : m + 1], obs[:, m : m + 1])[-1]
        np.testing.assert_array_equal(alone.spikes[0], together.spikes[m])
        np.testing.assert_array_equal(alone.action[0], together.action[m])


def test_an_empty_network_does_nothing():
    layers, v0, obs = random_case(PAPER, 40, 3, 2, members=2, num_steps=2, seed=5)
    empty = {name: np.zeros_like(layer) for name, layer in layers.items()}
    for step in simulate(PAPER, empty, v0, obs):
        np.testing.assert_array_equal(step.action, 0)
        assert not step.spikes.any() and not step.i_syn.any() and not step.rate.any()


def test_the_start_is_silent_with_potentials_between_rest_and_threshold():
    c = UNUSUAL
    network = make_network(c, 2, 1, 70)
    keys = jax.random.split(jax.random.key(1), 50)
    carry = network.initial_carry(keys)
    v = np.asarray(carry.neurons.v)
    assert v.shape == (50, 70)
    assert v.min() >= c.v_rest and v.max() < c.v_threshold
    width = c.v_threshold - c.v_rest
    assert abs(v.mean() - (c.v_rest + width / 2)) < 5 * width / math.sqrt(12 * v.size)
    assert v.min() < c.v_rest + 0.01 * width and v.max() > c.v_threshold - 0.01 * width
    for part in (carry.neurons.i_syn, carry.neurons.rate, carry.spikes):
        assert not np.asarray(part).any()
    alone = network.initial_carry(keys[7:8])
    np.testing.assert_array_equal(alone.neurons.v[0], v[7])
    assert network.num_parameters == 4 * 70 + 70 * 70 + 70


def test_spikes_per_ms_is_the_mean_absolute_rate():
    case = random_case(PAPER, 33, 3, 1, members=3, num_steps=1, seed=7)
    network = make_network(PAPER, 3, 1, 33)
    rate = simulate(PAPER, *case)[0].rate
    carry = network.initial_carry(jax.random.split(jax.random.key(0), 3))
    carry = carry._replace(neurons=carry.neurons._replace(rate=jnp.asarray(rate)))
    np.testing.assert_allclose(network.spikes_per_ms(carry), np.abs(rate).mean(axis=1), rtol=1e-6)


def test_substeps_of_an_environment_step():
    assert LifConstants().num_substeps == 33
