"""Which kernel a run takes, and what is said about it."""

from __future__ import annotations

import dataclasses
import functools

import jax
import pytest
from saved_runs import save_run

from evoconn_cli.config.loading import load_config
from evoconn_cli.config.schema import ConnSnnConfig
from evoconn_cli.engine.kernel_choice import KernelChoice, choose_kernel
from evoconn_cli.engine.mesh import WorkerMesh, make_worker_mesh
from evoconn_cli.errors import ConfigError
from evoconn_cli.evaluation.opened import open_run
from evoconn_cli.networks.conn_snn import make_conn_snn
from evoconn_cli.runs.provenance import start_facts, what_changed
from evoconn_cli.training.opening import create_run

OBS = 3


@pytest.fixture
def as_gpu(monkeypatch):
    """The devices of this machine pass for GPUs."""
    monkeypatch.setattr(WorkerMesh, "on_cpu", False)


def make_network(gain_of_kernel=1.0, kernel="interpreted"):
    """Returns a network whose kernel has a gain of its own, so that it may be wrong."""
    make = functools.partial(make_conn_snn, observation_size=OBS, action_size=1, one_by_one=False)
    config = ConnSnnConfig("conn_snn", 64)
    other = dataclasses.replace(config, gain_recurrent=gain_of_kernel)
    return dataclasses.replace(make(config), fused=lambda interpret: make(other, fused=kernel))


INTERPRETED, WRONG, COMPILED = make_network(), make_network(1.01), make_network(kernel="compiled")
NO_KERNEL = dataclasses.replace(INTERPRETED, fused=None)


def choose(*overrides: str, network=INTERPRETED) -> KernelChoice:
    config = load_config("smoke", ["network.num_neurons=64", *overrides])
    return choose_kernel(config, make_worker_mesh(jax.devices()), network, OBS)


def refusal(*overrides: str, network=INTERPRETED) -> str:
    with pytest.raises(ConfigError) as caught:
        choose("engine.kernel=pallas", *overrides, network=network)
    return str(caught.value)


def test_on_a_cpu_auto_is_xla_without_a_word():
    assert choose() == KernelChoice("xla")


def test_on_a_cpu_pallas_is_refused_before_there_is_a_run(tmp_path):
    assert refusal() == (
        "engine.kernel=pallas: it needs a GPU, and this run computes on the CPU. Use xla or auto; to resume a "
        "run, set it in its config.yaml."
    )
    with pytest.raises(ConfigError, match="needs a GPU"):
        create_run(load_config("smoke", ["engine.kernel=pallas"]), tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_auto_takes_the_kernel_where_it_is_found_equal(as_gpu):
    choice = choose()
    assert choice.name == "pallas"
    assert choice.found == (
        "engine.kernel=auto is pallas: the GPU kernel and XLA are equal on this device to the last bit."
    )


@pytest.mark.slow
def test_auto_leaves_a_kernel_that_computes_something_else(as_gpu):
    choice = choose(network=WRONG)
    assert choice.name == "xla"
    assert choice.found is not None and "differ on this device, in " in choice.found
    asked_for = choose("engine.kernel=pallas", network=WRONG)
    assert asked_for.name == "pallas", "who asks for it gets it, and is told"
    assert asked_for.found is not None and "differ on this device" in asked_for.found


def test_a_kernel_that_does_not_compile_is_no_kernel(as_gpu):
    """It really does not: these devices are CPUs."""
    choice = choose(network=COMPILED)
    assert choice.name == "xla"
    assert choice.found is not None and "the GPU kernel does not run on this device (" in choice.found
    assert "does not run on this device" in refusal(network=COMPILED)


def test_who_asks_for_xla_gets_it_unchecked(as_gpu):
    assert choose("engine.kernel=xla", network=NO_KERNEL) == KernelChoice("xla")


def test_sizes_and_networks_that_do_not_fit(as_gpu):
    assert "power of two from 32 to 1024 neurons, not 48" in refusal("network.num_neurons=48")
    assert "not 48" in (choose("network.num_neurons=48").found or "")
    assert "gru has no such kernel" in refusal("network.name=gru", "algo.name=es", network=NO_KERNEL)
    assert choose("network.name=gru", "algo.name=es", network=NO_KERNEL) == KernelChoice("xla")


def test_a_run_of_the_kernel_opens_without_a_gpu(tmp_path):
    path = save_run(tmp_path / "run")
    config = path / "config.yaml"
    text = config.read_text()
    assert text.count("kernel: auto") == 1
    config.write_text(text.replace("kernel: auto", "kernel: pallas"))
    assert open_run(path).config.engine.kernel == "pallas"


def test_another_kernel_is_said_at_a_resumption():
    facts = start_facts("1 x cpu")
    before = facts | {"kernel": "pallas"}
    assert what_changed(before, before) is None
    assert "computed by pallas, now by xla" in (what_changed(before, facts | {"kernel": "xla"}) or "")
    assert what_changed(facts, before) is None, "nothing is known of a run from before there was a choice"
