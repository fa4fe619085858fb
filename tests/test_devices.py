"""Devices that wait for each other, as the last members of a generation are simulated."""

from __future__ import annotations

import os
import sys

from conftest import SOAK
from started import start

_LATE = """
import sys
import time

from evoconn_cli.engine.mesh import DEVICES
from evoconn_cli.runs.devices import start_jax

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


def test_a_device_may_be_late():
    """By more than the minute after which XLA gives up, in a soak; otherwise by what the test below cannot bear."""
    assert run_late(70 if SOAK else 4, "") == (0, "1\n")


def test_how_late_it_may_be_is_as_the_environment_says():
    code, output = run_late(4, " ".join(f"{flag}=1" for flag in _STUCK))
    assert code < 0 and "Termination timeout" in output


def test_no_time_limit_of_xla_is_left_as_it_is():
    assert all(f"{flag}=10000000" in os.environ["XLA_FLAGS"] for flag in _STUCK)
