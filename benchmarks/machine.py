"""Describes the machine that figures are measured on."""

from __future__ import annotations

import platform
from pathlib import Path

import jax

from evoconn_cli.engine.devices import describe_devices
from evoconn_cli.engine.mesh import WorkerMesh


def describe_machine(workers: WorkerMesh) -> str:
    """Returns processor, devices and version of JAX."""
    return f"{_processor()}, {describe_devices(workers)}, jax {jax.__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
