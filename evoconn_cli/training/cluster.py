"""Joins the processes that train one run, on one host or several."""

from __future__ import annotations

import ctypes
import functools
import os
import resource
import signal
import socket
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.errors import ConfigError, ExitCode, ProcessLostError
from evoconn_cli.runs.guarded import output_discarded, reason_of, within
from evoconn_cli.training.processes import JoinedProcesses, Processes

JOINING_TIMEOUT = 300  # [s] from the first process to the last one
HEARTBEAT_TIMEOUT = 60  # [s] without a heartbeat until a process counts as lost
_SHUTDOWN_TIMEOUT = 300  # [s] for process 0 to close the run at the end

_SLURM_VARIABLES = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
"""Variables without which JAX does not recognise SLURM."""

_OTHER_FILES = 256  # open files for JAX, checkpoints, metrics and tracking


class Cluster(NamedTuple):
    """The processes that train together; None stands for what JAX finds in the environment."""

    coordinator: str | None  # HOST:PORT of process 0
    num_processes: int | None
    process_id: int | None


def choose_cluster(
    distributed: bool, coordinator: str | None, num_processes: int | None, process_id: int | None
) -> Cluster | None:
    """Returns the cluster that the command-line options name; None for a process that trains alone.

    Raises:
        ConfigError: some of the options are missing or contradict each other.
    """
    options = {"--coordinator": coordinator, "--num-processes": num_processes, "--process-id": process_id}
    missing = [name for name, value in options.items() if value is None]
    if len(missing) == len(options):
        return Cluster(None, None, None) if distributed else None
    if coordinator is None or num_processes is None or process_id is None:
        raise ConfigError(
            f"{', '.join(missing)} is missing: a process needs all of {', '.join(options)}. On a cluster that JAX "
            "knows, such as SLURM, --distributed alone is enough."
        )
    if process_id >= num_processes:
        raise ConfigError(f"--process-id={process_id}: the {num_processes} processes are numbered from 0.")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"--coordinator={coordinator}: write it as HOST:PORT, the address of process 0.")
    return Cluster(coordinator, num_processes, process_id)


def join(cluster: Cluster | None) -> Processes:
    """Returns the processes that train together, once all of them have joined; call it before JAX starts.

    Raises:
        ConfigError: the cluster cannot be found, or its address cannot be used.
        ProcessLostError: some processes did not join.
    """
    if cluster is None or cluster.num_processes == 1:
        return Processes()
    if cluster.coordinator is not None:
        _check_address(cluster.coordinator, is_here=cluster.process_id == 0)
    at = f" at {cluster.coordinator}" if cluster.coordinator else ""
    joined: list[JoinedProcesses] = []

    def explain() -> str:
        if joined:
            return joined[0].describe_loss()
        return (
            f"not all processes have joined{at} within {JOINING_TIMEOUT} s. Start all of them, with the same address "
            "and number of processes, and check that no firewall is between the hosts."
        )

    _explain_aborts(explain)
    jax.config.update("jax_enable_preemption_service", False)  # it would take over SIGTERM
    initialize = functools.partial(
        jax.distributed.initialize,
        *cluster,
        initialization_timeout=JOINING_TIMEOUT,
        heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
        shutdown_timeout_seconds=_SHUTDOWN_TIMEOUT,
    )
    try:
        within(2.0 * JOINING_TIMEOUT, initialize)  # in a thread, so that Ctrl-C works meanwhile
    except KeyboardInterrupt:
        print("Quit.", flush=True)
        os._exit(ExitCode.QUIT)  # nothing has begun, and Python would wait for the thread
    except ValueError:
        if cluster.coordinator is not None:
            raise
        missing = [name for name in _SLURM_VARIABLES if name not in os.environ]
        found = "no cluster was found in the environment"
        if 0 < len(missing) < len(_SLURM_VARIABLES):
            found = f"the environment of SLURM lacks {', '.join(missing)}, which srun sets"
        raise ConfigError(
            f"--distributed: {found}. Name the processes instead: --coordinator HOST:PORT --num-processes N "
            "--process-id I."
        ) from None
    except (RuntimeError, TimeoutError) as error:
        raise ProcessLostError(f"the processes cannot join{at}: {reason_of(error)}.") from None
    from jax._src import distributed  # nothing public leads to the key-value store

    shared = distributed.global_state
    joined.append(JoinedProcesses(shared.client, shared.process_id, shared.num_processes))
    joined[0].watch()
    return joined[0]


def _check_address(coordinator: str, *, is_here: bool) -> None:
    """Checks for an unknown host and, in process 0, for a port that is in use: JAX would end the process."""
    host, _, port = coordinator.rpartition(":")
    try:
        family, *_ = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:  # the latter for names such as a..b
        reason = error.strerror if isinstance(error, OSError) else "that is not the name of a host"
        raise ConfigError(f"--coordinator={coordinator}: {reason}.") from None
    if not is_here:
        return
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", int(port)))
        except OSError as error:
            raise ConfigError(
                f"--coordinator={coordinator}: the port cannot be opened here: {error.strerror}. Take another one, in "
                "all processes."
            ) from None


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)
_handlers: list[object] = []
"""Handlers that C may call, kept from being collected."""


def _explain_aborts(explain: Callable[[], str]) -> None:
    """Ends this process with a message and the exit code of a lost process when JAX would end it with SIGABRT."""

    def end(_: int) -> None:
        try:
            os.write(2, f"Error: {explain()}\n".encode())
        finally:
            os._exit(ExitCode.PROCESS_LOST)

    handler = _HANDLER(end)
    _handlers.append(handler)
    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes, set_handler.restype = [ctypes.c_int, _HANDLER], ctypes.c_void_p
    set_handler(signal.SIGABRT, handler)


def connect_devices(processes: Processes, workers: WorkerMesh) -> None:
    """Connects the devices of all processes, while all processes are at the same place.

    Raises:
        ConfigError: the system does not allow enough connections.
        ProcessLostError: the processes cannot reach each other.
    """
    if processes.count == 1:
        return
    if workers.on_cpu:
        _allow_connections(len(workers.mesh.local_devices) * workers.mesh.size)
    total = jax.jit(jnp.sum, out_shardings=workers.whole)
    try:
        with output_discarded(1):  # Gloo would print between the lines of the run
            jax.block_until_ready(total(workers.put_sharded(np.ones(workers.mesh.size, np.int32))))
    except (RuntimeError, ValueError) as error:
        raise processes.lost(error) or error from None


def _allow_connections(number: int) -> None:
    """Raises the limit of open files for `number` connections: on CPUs, Gloo connects each device with every other.

    Raises:
        ConfigError: the system does not allow that.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ConfigError(
            f"that many devices need {wanted:,} open files per process, and the system allows {hard:,}: raise the hard "
            "limit (ulimit -Hn), or use fewer devices per process (--devices)."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
