"""Devices: which are taken, how they are connected, and that they wait for each other."""

from __future__ import annotations

import os
import resource
import sys
from types import SimpleNamespace

import jax
import pytest
from conftest import SOAK
from started import start
from whole_runs import assert_same_run, evoconn

from evoconn_cli.engine.devices import arithmetic_variables, set_xla_flags
from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.errors import ConfigError
from evoconn_cli.training.cluster import connect_devices

_LATE = """
import sys
import time

from evoconn_cli.engine.mesh import DEVICES
from evoconn_cli.engine.devices import start_jax

mesh = start_jax(2).mesh
import jax
from jax.sharding import PartitionSpec

def late(index):
    time.sleep(0 if index else float(sys.argv[1]))
    return index

def add():
    index = jax.pure_callback(late, jax.ShapeDtypeStruct((), jax.numpy.int32), jax.lax.axis_index(DEVICES))
    return jax.lax.psum(index, DEVICES)

print(jax.jit(jax.shard_map(add, mesh=mesh, in_specs=(), out_specs=PartitionSpec(), check_vma=False))())
"""
_STUCK = ("--xla_cpu_collective_call_warn_stuck_timeout_seconds", "--xla_cpu_collective_call_terminate_timeout_seconds")


def run_late(seconds: float, flags: str) -> tuple[int, str]:
    """Returns the exit code and the output of a process in which one of two devices comes so late [s]."""
    streams = {"stdout": -1, "stderr": -2, "text": True}
    process = start([sys.executable, "-c", _LATE, str(seconds)], env={**os.environ, "XLA_FLAGS": flags}, **streams)
    output, _ = process.communicate(timeout=seconds + 120)
    return process.returncode, output


@pytest.mark.slow
def test_a_device_may_be_late():
    """By more than the minute after which XLA gives up, in a soak; otherwise by what the test below cannot bear."""
    assert run_late(70 if SOAK else 4, "") == (0, "1\n")


@pytest.mark.slow
def test_how_late_it_may_be_is_as_the_environment_says():
    code, output = run_late(4, " ".join(f"{flag}=1" for flag in _STUCK))
    assert code < 0 and "Termination timeout" in output


def test_no_time_limit_of_xla_is_left_as_it_is():
    assert all(f"{flag}=10000000" in os.environ["XLA_FLAGS"] for flag in _STUCK)


@pytest.mark.parametrize(("platform", "num_workers", "size"), [("cpu", 1, 2), ("gpu", 1, 1), ("gpu", 2, 2)])
def test_one_gpu_of_several_is_taken_alone(platform, num_workers, size):
    class Device(SimpleNamespace):
        __hash__ = object.__hash__

    devices = [Device(id=i, platform=platform, process_index=0, device_kind=platform) for i in range(4)]
    assert make_worker_mesh(devices, num_workers).mesh.size == size


def connect(monkeypatch, soft: int, hard: int, num_devices: int) -> list[tuple[int, int]]:
    """Connects so many devices in one of four processes; returns which limits of open files were set."""
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    workers = make_worker_mesh(jax.devices()[:2])
    mesh = SimpleNamespace(local_devices=range(num_devices), size=4 * num_devices)
    connected = SimpleNamespace(on_cpu=True, mesh=mesh, whole=workers.whole, put_sharded=lambda _: jax.numpy.ones(2))
    connect_devices(SimpleNamespace(count=4), connected)
    return limits


def test_open_files_suffice_for_all_connections(monkeypatch):
    assert connect(monkeypatch, 1024, 524288, num_devices=2) == []
    assert connect(monkeypatch, 1024, 524288, num_devices=32) == [(32 * 128 + 256, 524288)]
    assert connect(monkeypatch, resource.RLIM_INFINITY, resource.RLIM_INFINITY, num_devices=32) == []
    assert connect(monkeypatch, 1024, resource.RLIM_INFINITY, num_devices=32) == [(4352, resource.RLIM_INFINITY)]
    with pytest.raises(ConfigError, match=r"need 4,352 open files per process, and the system allows 4,096"):
        connect(monkeypatch, 1024, 4096, num_devices=32)


def test_a_file_of_flags_is_read_and_ours_are_added(tmp_path, monkeypatch):
    """XLA takes what does not begin with a hyphen for the name of a file."""
    (tmp_path / "flags.txt").write_text("--xla_cpu_enable_fast_math=true\n--xla_dump_to=x\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XLA_FLAGS", "flags.txt")
    set_xla_flags()
    flags = os.environ["XLA_FLAGS"].split()
    assert flags[:2] == ["--xla_cpu_enable_fast_math=true", "--xla_dump_to=x"] and len(flags) > 5
    assert all(flag.startswith("--") for flag in flags)
    assert arithmetic_variables() == {"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"}


def test_a_file_of_flags_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", str(tmp_path / "none.txt"))
    with pytest.raises(ConfigError, match="XLA_FLAGS=.*none.txt: .*No such file"):
        set_xla_flags()


SWITCHES = {
    "JAX_ENABLE_X64": "1",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_RANDOM_SEED_OFFSET": "7",
    "JAX_DISABLE_JIT": "1",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_TRANSFER_GUARD": "disallow",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_DEBUG_NANS": "1",
}


@pytest.mark.slow
def test_whatever_switches_of_jax_the_environment_has_a_run_is_the_same(tmp_path):
    arguments = ["train", "--config", "smoke", "--population", "16", "--generations", "2", "--devices", "2"]
    for name, switches in {"plain": {}, "switched": SWITCHES}.items():
        environment = {**os.environ, "WANDB_MODE": "disabled", **switches}
        process = evoconn(*arguments, "--run-dir", name, cwd=tmp_path, env=environment)
        shown = process.communicate(timeout=120)[0]
        assert process.returncode == 0, shown
    assert_same_run(tmp_path / "plain", tmp_path / "switched")
