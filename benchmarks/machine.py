"""Describes the machine that figures are measured on."""

from __future__ import annotations

import jax

from evoconn_cli.engine.devices import describe_devices
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.limits import processor


def describe_machine(workers: WorkerMesh) -> str:
    """Returns processor, devices and version of JAX."""
    return f"{processor()}, {describe_devices(workers)}, jax {jax.__version__}"
