"""The networks with real weights against what the published code gave."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evoconn_cli.config.schema import DenseSnnConfig
from evoconn_cli.networks.dense_snn import DenseSnnCarry, make_dense_snn
from evoconn_cli.networks.flax_networks import make_flax_network
from evoconn_cli.networks.lif import LifState


def nested(golden, prefix: str) -> dict:
    """Returns the arrays below `prefix` as the nested dict that their paths spell."""
    tree: dict = {}
    for path, array in golden.items():
        if path.startswith(prefix):
            *parents, name = path.removeprefix(prefix).split("/")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[name] = jnp.asarray(array)
    return tree


def for_each_member(weights, num_members: int):
    return jax.tree.map(lambda w: jnp.broadcast_to(w, (num_members, *w.shape)), weights)


def replay(network, weights, carry, golden):
    """Returns the actions `[T, B, A]` for the golden observations."""
    num_members = golden["obs"].shape[1]
    params = network.prepare(for_each_member(weights, num_members))
    step, actions = jax.jit(network.step), []
    for obs in golden["obs"]:
        carry, action = step(params, carry, jnp.asarray(obs))
        actions.append(np.asarray(action))
    return np.stack(actions)


@pytest.mark.slow
@pytest.mark.parametrize("name, size", [("gru", 32), ("lstm", 16), ("mlp", 32)])
def test_flax_networks_act_as_published(golden, name, size):
    arrays = golden(f"dense_{name}")
    network = make_flax_network(name, observation_size=11, action_size=3, num_neurons=size)
    weights = nested(arrays, "params/params/")
    assert jax.tree.structure(weights) == jax.tree.structure(network.shapes)
    carry = network.initial_carry(jax.random.split(jax.random.key(0), 2))
    for ours, theirs in zip(
        jax.tree.leaves(carry), [arrays[k] for k in sorted(arrays) if k.startswith("carry0")], strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(replay(network, weights, carry, arrays), arrays["action"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tile", [None, 1])
def test_dense_snn_acts_as_published(golden, tile):
    arrays = golden("dense_snn")
    network = make_dense_snn(DenseSnnConfig("dense_snn", 64), observation_size=11, action_size=3, tile=tile)
    v, i_syn, rate, spikes = (jnp.asarray(arrays[f"carry0/[{i}]"]) for i in range(4))
    carry = DenseSnnCarry(LifState(v, i_syn, rate), spikes)
    actions = replay(network, nested(arrays, "params/params/"), carry, arrays)
    np.testing.assert_allclose(actions, arrays["action"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_dense_snn_starts_from_standard_normal_weights():
    network = make_dense_snn(DenseSnnConfig("dense_snn", 64), observation_size=11, action_size=3)
    weights = network.initial_weights(jax.random.key(0))
    for kernel in weights.values():
        assert abs(float(kernel.mean())) < 5 / kernel.size**0.5
        assert abs(float(kernel.std()) - 1) < 5 / (2 * kernel.size) ** 0.5
