"""Ray: joining a cluster or starting one on this machine, and what a cell asks it for."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from typing import Any, NamedTuple

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.errors import GridError

_OBJECT_STORE = 100 * 2**20
"""Of a Ray that is started here [bytes]: nothing but exit codes goes through it."""

_PATIENCE = 10.0
"""For the answer of a cluster [s]."""


class Request(NamedTuple):
    """What a cell asks Ray for."""

    num_cpus: float
    num_gpus: float


@contextmanager
def ray_cluster(address: str | None) -> Iterator[Any]:
    """Yields the module `ray`, connected.

    Args:
        address: of a cluster, as `ray.init` takes it; None for the environment's RAY_ADDRESS, or else a Ray on this
            machine that ends with this process.

    Raises:
        GridError: Ray is not installed, or not to be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # tasks without GPUs keep CUDA_VISIBLE_DEVICES
    try:
        import ray
    except ImportError:
        raise GridError("--on ray needs Ray: pip install 'ray>=2.40'.") from None
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    _check_listening(address)
    own = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE} if address == "local" else {}
    try:
        with chdir(os.sep):  # Ray puts the working directory first on its workers' path, for modules to be found in
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _unreachable(address, str(error).strip().partition("\n")[0]) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def request_of_a_cell(launch: LaunchConfig, nodes: Sequence[Mapping[str, Any]], use_gpus: bool) -> Request:
    """Returns what each cell asks for: its share of a GPU where there are GPUs, else its cores.

    Args:
        launch: how many runs share a GPU, and how many cores a run has.
        nodes: of the cluster, as `ray.nodes()` lists them.
        use_gpus: whether cells can use GPUs.

    Raises:
        GridError: no node has a whole core.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    if use_gpus and any(node.get("GPU", 0) >= 1 for node in resources):
        return Request(num_cpus=1, num_gpus=1 / launch.runs_per_device)
    most = int(max((node.get("CPU", 0) for node in resources), default=0))
    if most < 1:
        raise GridError("no node of the Ray cluster has a core for tasks. Start Ray with --num-cpus.")
    return Request(num_cpus=min(launch.cores_per_run, most), num_gpus=0)


def _check_listening(address: str) -> None:
    """Finds out at once where nothing listens, for which Ray takes a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, f"{getattr(error, 'strerror', None) or error}.") from None


def _unreachable(address: str, reason: str) -> GridError:
    return GridError(f"no Ray can be reached at {address}: {reason} Is it running? Look at `ray status`.")
