"""What several processes have in common: their devices, and the state of the run, handed out by the writer."""

from __future__ import annotations

import hashlib
import resource

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.state import RunState
from evoconn_cli.errors import ConfigError
from evoconn_cli.runs.guarded import output_discarded
from evoconn_cli.runs.processes.protocol import Processes

_OTHER_FILES = 256  # of JAX, checkpoints, metrics, tracking


def connect_devices(processes: Processes, workers: WorkerMesh) -> None:
    """Lets the devices of all processes meet for the first time, while all processes are at the same place.

    Raises:
        ConfigError: the system does not allow so many connections.
        ProcessLostError: they cannot reach each other.
    """
    if processes.count == 1:
        return
    if workers.on_cpu:
        _allow_connections(len(workers.mesh.local_devices) * workers.mesh.size)
    total = jax.jit(jnp.sum, out_shardings=workers.whole)
    try:
        with output_discarded(1):  # Gloo prints there, into what is shown of the run
            jax.block_until_ready(total(workers.put_sharded(np.ones(workers.mesh.size, np.int32))))
    except (RuntimeError, ValueError) as error:
        raise processes.lost(error) or error from None


def _allow_connections(number: int) -> None:
    """Raises the limit of open files for so many connections: of a CPU, Gloo connects each device with every other.

    Raises:
        ConfigError: the system does not allow so many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ConfigError(
            f"so many devices need {wanted:,} open files a process, and the system allows {hard:,}: "
            "raise the hard limit (ulimit -Hn), or take fewer devices of each process (--devices)."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def share_state(state: RunState, processes: Processes, workers: WorkerMesh) -> RunState:
    """Returns the state of the writer, on the first device of this process.

    Args:
        state: to hand out; in the other processes, one of the same shapes.
        processes: that train the run.
        workers: the devices.
    """
    if processes.count == 1:
        return state
    leaves, structure = jax.tree.flatten(jax.device_get(state))
    data = processes.broadcast(b"".join(x.tobytes() for x in leaves))
    if processes.is_writer:
        return state
    shared, start = [], 0
    for x in leaves:
        shared.append(np.frombuffer(data, x.dtype, x.size, start).reshape(x.shape))
        start += x.nbytes
    return jax.device_put(jax.tree.unflatten(structure, shared), workers.first_device)


def digest(state: RunState) -> str:
    """Returns a text that differs where a bit of the state does."""
    found = hashlib.blake2b(digest_size=16)
    for x in jax.tree.leaves(jax.device_get(state)):
        found.update(x.tobytes())
    return found.hexdigest()
