"""Every program of a generation lowers for CUDA, also without a GPU, and stays on it, in 32 bits."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from evoconn_cli.config.loading import load_config
from evoconn_cli.engine import build
from evoconn_cli.engine.generation import learn_observations
from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.engine.rollout import Rollout
from evoconn_cli.networks import conn_snn
from evoconn_cli.networks.conn_snn import make_conn_snn

TRITON = "__gpu$xla.gpu.triton"
SMALL = ("algo.population=32", "algo.evaluation_copies=4", "engine.block=8")


def programs(config, num_devices: int) -> dict[str, str]:
    """Returns the StableHLO for CUDA of all programs of a generation, by name."""
    workers = make_worker_mesh(jax.devices()[:num_devices])
    engine = build.build_engine(config, workers)
    generation, state = engine.generation, jax.eval_shape(engine.initial_state)
    members, carries, texts = jax.ShapeDtypeStruct(generation.members.shape, np.int32), None, {}

    def export(name: str, fn, *args, shardings=None):
        program = jax.jit(fn) if shardings is None else jax.jit(fn, in_shardings=shardings)
        # Triton's format may change between versions of XLA, which matters to files only.
        allowed = [jax.export.DisabledSafetyCheck.custom_call(TRITON)]
        exported = jax.export.export(program, platforms=["cuda"], disabled_checks=allowed)(*args)
        assert exported.platforms == ("cuda",)
        texts[name] = exported.mlir_module()
        return jax.eval_shape(fn, *args)

    whole, sharded = workers.whole, workers.sharded
    if config.rollout.warmup_steps:
        carries, sums = export("warm_up", generation.warm_up, state, members, shardings=(whole, sharded))
        export("learn_observations", learn_observations, state.normalizer, sums)
    shardings = (whole, sharded, sharded)
    evaluation = export("simulate", generation.simulate, state, members, carries, shardings=shardings)
    export("learn", generation.learn, state, evaluation)
    return texts


def foreign(text: str) -> set[str]:
    """Returns what a program has that XLA does not compile for the GPU: calls to elsewhere, and 64-bit floats."""
    calls = set(re.findall(r"custom_call @([^(\s]+)\(", text))
    transfers = set(re.findall(r"stablehlo\.(?:infeed|outfeed|send|recv)\b", text))
    return calls | transfers | set(re.findall(r"[<x](f64)>", text))


@pytest.fixture
def gpu_form(monkeypatch):
    """Networks are built as on a GPU."""

    def use(**options):
        monkeypatch.setattr(
            conn_snn, "make_conn_snn", lambda config, **given: make_conn_snn(config, **(given | options))
        )
        monkeypatch.setattr(build, "Rollout", lambda *args, **given: Rollout(*args, **(given | {"on_cpu": False})))

    return use


@pytest.mark.slow
def test_hopper_with_a_spiking_network(gpu_form):
    gpu_form(one_by_one=False)
    texts = programs(load_config("laptop", SMALL), num_devices=2)
    assert {name: foreign(text) for name, text in texts.items()} == {"simulate": set(), "learn": set()}
    assert "stablehlo.all_gather" in texts["simulate"], "two devices"


@pytest.mark.slow
def test_the_published_ways_to_measure_with_the_fused_kernel(gpu_form):
    gpu_form(one_by_one=False, fused="compiled")
    published = ("rollout.fitness=until_slowest", "rollout.normalizer=last_step", "rollout.warmup_steps=3")
    texts = programs(load_config("smoke", (*SMALL, *published)), num_devices=1)
    assert {name: foreign(text) for name, text in texts.items()} == {
        "warm_up": {TRITON},
        "learn_observations": set(),
        "simulate": {TRITON},
        "learn": set(),
    }


@pytest.mark.slow
def test_evolution_strategies_on_a_gated_network():
    config = load_config("smoke", (*SMALL, "algo.name=es", "network.name=gru", "network.num_neurons=16"))
    texts = programs(config, num_devices=2)
    assert {name: foreign(text) for name, text in texts.items()} == {"simulate": set(), "learn": set()}


def test_what_does_not_belong_is_found():
    def lowered(fn, platform: str = "cuda") -> str:
        return jax.jit(fn).trace(jnp.ones(3)).lower(lowering_platforms=(platform,)).as_text()

    def call_host(x):
        return jax.pure_callback(np.sin, x, x)

    # For CUDA a callback needs the GPU's own host, so here it is found in a program for the CPU.
    assert any("callback" in call for call in foreign(lowered(call_host, "cpu")))
    with pytest.raises(ValueError, match="different from the lowering platform"):
        lowered(call_host)
    with jax.enable_x64(True):
        assert foreign(lowered(lambda x: x.astype(jnp.float64) * 2)) == {"f64"}
        assert foreign(lowered(lambda x: jnp.sum(x.astype(jnp.float64)))) == {"f64"}
    assert foreign(lowered(jnp.sin)) == set()
