"""Noise, lesions and another physics: what they do, and what they leave alone."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evoconn_cli.config.perturbations import parse_perturbations, setting_text, swept_name
from evoconn_cli.config.registry import names
from evoconn_cli.config.schema import ConnSnnConfig, DenseSnnConfig, TaskConfig
from evoconn_cli.engine.episodes import lesion_neurons, lesion_synapses, observation_noise
from evoconn_cli.errors import ConfigError
from evoconn_cli.networks import bits
from evoconn_cli.networks.conn_snn import make_conn_snn
from evoconn_cli.networks.dense_snn import make_dense_snn
from evoconn_cli.networks.flax_networks import make_flax_network
from evoconn_cli.networks.layers import fan_out, layer_arrays
from evoconn_cli.tasks import make_task
from evoconn_cli.tasks.brax_compat import import_brax_envs
from evoconn_cli.tasks.brax_v1 import PhysicsScale, make_scaled_environment

BRAX_V1_TASKS = names("task", hidden=False)

OBS, A, N, B = 5, 2, 40, 4
SIZES = dict(observation_size=OBS, action_size=A)
NETWORKS = {
    "conn_snn": lambda: make_conn_snn(ConnSnnConfig("conn_snn", N, gain_in=0.5), **SIZES),
    "dense_snn": lambda: make_dense_snn(DenseSnnConfig("dense_snn", N, gain_in=0.5), **SIZES),
    **{name: (lambda name=name: make_flax_network(name, **SIZES, num_neurons=N)) for name in ("gru", "lstm", "mlp")},
}
KEYS = jax.random.split(jax.random.key(7), B)


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


@pytest.fixture
def candidates(network):
    """Parameters of a block without a weight that is 0."""
    if network.initial_weights is not None:
        drawn = jax.vmap(network.initial_weights)(KEYS)
        return jax.tree.map(lambda x: x + jnp.where(x == 0.0, 0.5, 0.0), drawn)
    return {name: bits.pack(jnp.ones((B, *shape.shape), bool), axis=1) for name, shape in network.shapes.items()}


def connected(network, candidates):
    """Returns `{layer: [B, pre, post]}` whether there is a connection."""
    return {name: np.asarray(a) != 0 for name, a in layer_arrays(network, candidates).items()}


def test_every_weight_but_biases_belongs_to_a_layer(network, candidates):
    in_layers = sum(x[0].size for x in connected(network, candidates).values())
    biases = [x for x in jax.tree.leaves(network.shapes) if len(x.shape) == 1]
    assert in_layers + sum(x.shape[0] for x in biases) == network.num_parameters


def test_the_fan_out_counts_connections(network, candidates):
    lesioned = lesion_synapses(network, KEYS, candidates, jnp.float32(0.4))
    for name, counts in fan_out(network, lesioned).items():
        np.testing.assert_array_equal(counts, connected(network, lesioned)[name].sum(axis=2))


@pytest.mark.slow
@pytest.mark.parametrize("lesion", [lesion_synapses, lesion_neurons])
def test_a_lesion_of_nothing_changes_no_bit(network, candidates, lesion):
    same = lesion(network, KEYS, candidates, jnp.float32(0.0))
    for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(candidates), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("lesion", [lesion_synapses, lesion_neurons])
def test_a_lesion_of_everything_leaves_no_connection_between_neurons(network, candidates, lesion):
    left = connected(network, lesion(network, KEYS, candidates, jnp.float32(1.0)))
    assert not any(values.any() for values in left.values())


def test_synapses_are_lost_with_the_probability_that_is_asked_for(network, candidates):
    left = connected(network, lesion_synapses(network, KEYS, candidates, jnp.float32(0.3)))
    share = np.mean(np.concatenate([values.reshape(-1) for values in left.values()]))
    assert abs(share - 0.7) < 0.06
    for values in left.values():
        assert not np.array_equal(values[0], values[1])


def test_a_lost_neuron_has_no_connection_left_and_others_keep_all(network, candidates):
    left = connected(network, lesion_neurons(network, KEYS, candidates, jnp.float32(0.5)))
    into = {name: layer for name, layer in network.layers.items() if layer.post == "neurons"}
    alive = np.stack([left[name].any(axis=1) for name in into]).any(axis=0)  # [B, N]
    assert 0.3 < alive.mean() < 0.7
    for name, layer in network.layers.items():
        pre = np.ones(left[name].shape[:2], bool) if layer.pre == "observation" else alive
        post = alive if layer.post == "neurons" else np.ones((B, A), bool)
        np.testing.assert_array_equal(left[name], pre[:, :, None] & post[:, None, :])


@pytest.mark.slow
def test_a_lost_neuron_never_fires():
    network = NETWORKS["conn_snn"]()
    shapes = network.shapes.items()
    drawn = {
        name: bits.pack(jax.random.bernoulli(jax.random.key(i), 0.5, (B, *shape.shape)), axis=1)
        for i, (name, shape) in enumerate(shapes)
    }
    lesioned = lesion_neurons(network, KEYS, drawn, jnp.float32(0.5))
    left = connected(network, lesioned)
    lost = ~(left["input"].any(axis=1) | left["recurrent"].any(axis=1) | left["recurrent"].any(axis=2))
    obs = 5.0 * jax.random.normal(jax.random.key(1), (B, OBS))
    carry, fired = network.initial_carry(KEYS), np.zeros((B, N), int)
    for _ in range(3):
        carry, _, activity = network.record(network.prepare(lesioned), carry, obs)
        fired += np.asarray(activity.spikes).sum(axis=0)
    assert lost.any() and fired[lost].sum() == 0 and fired[~lost].sum() > 0


def test_biases_survive_a_lesion():
    network = NETWORKS["mlp"]()
    weights = jax.tree.map(jnp.ones_like, jax.vmap(network.initial_weights)(KEYS))
    lesioned = lesion_synapses(network, KEYS, weights, jnp.float32(1.0))
    assert lesioned["Dense_0"]["bias"].all() and not lesioned["Dense_0"]["kernel"].any()


def test_noise_has_the_strength_that_is_asked_for_and_is_another_each_step():
    first, second = (observation_noise(KEYS, jnp.int32(step), 2000, jnp.float32(0.3)) for step in (0, 1))
    assert abs(float(first.std()) - 0.3) < 0.01 and abs(float(first.mean())) < 0.01
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(first[0], first[1])[0, 1]) < 0.1


@pytest.fixture(scope="module")
def envs():
    return import_brax_envs()


def systems(envs, name, **factors):
    """Returns the system of a task as it is, and scaled."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scaled = make_scaled_environment(envs, name, PhysicsScale(**factors))
        return envs.get_environment(name).sys, scaled.sys


def contact_friction(system):
    """Returns the coefficient of a contact of the first body with the last one, the floor."""
    bodies = system.config.bodies
    return bodies[0].colliders[0].material.friction * bodies[-1].colliders[0].material.friction


def test_physics_is_scaled_by_what_is_asked_for(envs):
    hopper, scaled = systems(envs, "hopper", friction=0.5, gravity=2.0, mass=3.0, actuator_strength=0.25)
    assert contact_friction(scaled) == pytest.approx(0.5 * contact_friction(hopper))
    np.testing.assert_allclose(scaled.integrator.gravity, 2.0 * hopper.integrator.gravity)
    np.testing.assert_allclose(scaled.body.mass, 3.0 * hopper.body.mass, rtol=1e-6)
    np.testing.assert_allclose(scaled.body.inertia, hopper.body.inertia / 3.0, rtol=1e-6)  # Brax inverts it
    np.testing.assert_allclose(scaled.actuators[0].strength, 0.25 * hopper.actuators[0].strength)
    assert hopper.config.gravity.z == pytest.approx(-9.81)


@pytest.mark.parametrize("name", ["hopper", "humanoid", "ant", "grasp"])
def test_factors_of_one_change_nothing(envs, name):
    """Humanoid's joints have different degrees of freedom, which Brax evens out in the configuration it is given."""
    system, same = systems(envs, name)
    assert same.config == system.config
    assert (same.num_joint_dof, same.num_bodies) == (system.num_joint_dof, system.num_bodies)


@pytest.mark.parametrize("name", BRAX_V1_TASKS)
def test_every_task_can_be_heavier(envs, name):
    system, heavier = systems(envs, name, mass=2.0)
    np.testing.assert_allclose(heavier.body.mass, 2.0 * system.body.mass, rtol=1e-6)
    assert heavier.num_joint_dof == system.num_joint_dof


def test_forces_are_actuators_only_where_there_are_no_others(envs):
    pendulum, scaled = systems(envs, "inverted_pendulum", actuator_strength=0.5)
    np.testing.assert_allclose(scaled.forces[0].strength, 0.5 * pendulum.forces[0].strength)
    swimmer, water = systems(envs, "swimmer", actuator_strength=0.5)
    np.testing.assert_allclose(water.forces[0].strength, swimmer.forces[0].strength)
    np.testing.assert_allclose(water.actuators[0].strength, 0.5 * swimmer.actuators[0].strength)


@pytest.mark.parametrize(
    ("task", "factors", "message"),
    [
        ("pusher", {"gravity": 2.0}, "has no gravity"),
        ("pusher", {"friction": 2.0}, "has no friction"),
        ("reacher", {"friction": 2.0}, "has no friction"),
        ("swimmer", {"friction": 2.0}, "has no friction"),
    ],
)
def test_a_factor_that_changes_nothing_is_an_error(envs, task, factors, message):
    with pytest.raises(ConfigError, match=message):
        systems(envs, task, **factors)


def test_a_probe_has_no_physics():
    with pytest.raises(ConfigError, match="no physics"):
        make_task(TaskConfig("probe_sign"), physics=PhysicsScale(gravity=0.5))


def test_perturbations_are_read():
    assert parse_perturbations([]) == [{}]
    assert parse_perturbations(["obs-noise=0.1", "mass=2"]) == [{"obs-noise": 0.1, "mass": 2.0}]
    sweep = parse_perturbations(["mass=2", "obs-noise=0,0.5"])
    assert sweep == [{"mass": 2.0, "obs-noise": 0.0}, {"mass": 2.0, "obs-noise": 0.5}]
    assert swept_name(sweep) == "obs-noise" and swept_name([{"mass": 2.0}]) is None and swept_name([{}]) is None
    assert parse_perturbations(["mass=2,2"]) == [{"mass": 2.0}]
    assert setting_text(sweep[1], without="mass") == "obs-noise 0.5"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["obs-noise"], "NAME=VALUE"),
        (["obsnoise=1"], "Did you mean 'obs-noise'"),
        (["obs-noise=much"], "'much' is not a number"),
        (["obs-noise=-1"], "at least 0"),
        (["obs-noise=nan"], "is not a number"),
        (["obs-noise=.inf"], "at least 0"),
        (["obs-noise=1_0"], "is not a number"),
        (["lesion-neurons=1.5"], "from 0 to 1"),
        (["mass=1", "mass=2"], "given twice"),
        (["mass=1,2", "gravity=1,2"], "only one perturbation"),
        (["mass=1,,2"], "not a number"),
    ],
)
def test_what_cannot_be_read_is_told(entries, message):
    with pytest.raises(ConfigError, match=message):
        parse_perturbations(entries)
