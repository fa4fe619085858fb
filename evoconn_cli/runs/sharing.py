"""The state of a run in several processes: handed from the writer to the others, and compared."""

from __future__ import annotations

import hashlib

import jax
import numpy as np

from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.state import RunState
from evoconn_cli.runs.processes import Processes


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
