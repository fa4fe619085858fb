"""The GPU kernel for the sub-steps: interpreted against the plain path, and lowered for CUDA."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.triton import lowering  # the only way to the module that Triton gets

from evoconn_cli.config.schema import ConnSnnConfig
from evoconn_cli.networks import bits
from evoconn_cli.networks.conn_snn import ConnSnnCarry, ConnSnnParams, make_conn_snn
from evoconn_cli.networks.fused_substeps import MAX_NEURONS, why_not_fused
from evoconn_cli.networks.lif import LifConstants

OBS, A, B = 3, 2, 4
UNUSUAL = LifConstants(4.0, 12.0, 8.0, 0.25, 5.1, -0.5, 0.8)
CASES = [pytest.param(32, 0.5, LifConstants(), marks=pytest.mark.slow), (64, 0.3, UNUSUAL), (256, 0.5, LifConstants())]


def make_network(num_neurons=64, excitatory_ratio=0.5, constants=LifConstants(), **options):  # noqa: B008
    config = ConnSnnConfig("conn_snn", num_neurons, gain_in=0.3, excitatory_ratio=excitatory_ratio, **vars(constants))
    return make_conn_snn(config, observation_size=OBS, action_size=A, **{"one_by_one": False, **options})


def random_block(network, seed=0) -> tuple[ConnSnnParams, ConnSnnCarry, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {name: (B, bits.num_words(x.shape[0]), x.shape[1]) for name, x in network.shapes.items()}
    candidates = {name: rng.integers(2**32, size=shape, dtype=np.uint32) for name, shape in shapes.items()}
    params = jax.jit(network.prepare)(candidates)
    carry = jax.jit(network.initial_carry)(jax.random.split(jax.random.key(seed), B))
    return params, carry, rng.normal(size=(3, B, OBS)).astype(np.float32)


def steps(network, params, carry, observations, active=None):
    step, done = jax.jit(network.step), []
    for obs in observations:
        carry, action = step(params, carry, obs, active)
        done.append((carry, action))
    return jax.tree.map(np.asarray, done)


def assert_equal_bits(ours, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32)), ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize(("num_neurons", "excitatory_ratio", "constants"), CASES, ids=lambda x: str(x)[:4])
def test_interpreted_it_gives_the_same_bits_as_xla(num_neurons, excitatory_ratio, constants):
    plain = make_network(num_neurons, excitatory_ratio, constants)
    block = random_block(plain)
    theirs = steps(plain, *block)
    fired = bits.unpack(theirs[-1][0].spikes, axis=1, length=num_neurons)
    assert 0.0 < np.mean(fired) < 0.9 and np.abs(theirs[-1][1]).max() > 0
    fused = make_network(num_neurons, excitatory_ratio, constants, fused="interpreted")
    assert_equal_bits(steps(fused, *block), theirs)


@pytest.mark.slow
def test_members_that_are_not_active_are_passed_over():
    network = make_network(fused="interpreted")
    params, carry, observations = random_block(network)
    active = np.array([True, False, True, False])
    ours = steps(network, params, carry, observations, active)
    theirs = steps(network, params, carry, observations)
    assert_equal_bits(*(jax.tree.map(lambda x: x[active], x) for x in (ours, theirs)))
    np.testing.assert_array_equal(ours[-1][0].neurons.v[~active], carry.neurons.v[~active])


@pytest.mark.parametrize("num_neurons", [32, 256, MAX_NEURONS])
def test_it_lowers_for_cuda_to_a_module_that_triton_takes(num_neurons, monkeypatch):
    """JAX hands the module on as it is: what Triton's verifier refuses would fail on the GPU."""
    modules = []

    def lower(*args, original=lowering.lower_jaxpr_to_triton_module, **options):
        result = original(*args, **options)
        assert result.module.operation.verify()
        modules.append(str(result.module))
        return result

    monkeypatch.setattr(lowering, "lower_jaxpr_to_triton_module", lower)
    network = make_network(num_neurons, fused="compiled")
    shapes = jax.eval_shape(lambda: random_block(network)[:2])
    h100 = jax.sharding.AbstractDevice("NVIDIA H100", num_cores=132, platform="gpu")
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ("one",), abstract_device=h100)):
        traced = jax.jit(network.step).trace(*shapes, jax.ShapeDtypeStruct((B, OBS), jnp.float32))
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    (module,) = modules
    assert text.count("@__gpu$xla.gpu.triton") == 1
    before_the_loop, loop = module.split("scf.for")
    assert f"tensor<{num_neurons // 32}x{num_neurons}x!tt.ptr<i32>>" in before_the_loop
    loop = loop.partition("scf.yield")[0]
    assert "tt.load" not in loop and "__nv_popc" in loop, "recurrent bits are not held over the sub-steps"


@pytest.mark.parametrize("num_neurons", [1, 16, 48, 96, 250, 2048])
def test_other_numbers_of_neurons_are_left_to_xla(num_neurons):
    assert str(num_neurons) in (why_not_fused(num_neurons) or "")
    with pytest.raises(ValueError, match="power of two from 32 to 1024"):
        make_network(num_neurons, fused="compiled")
