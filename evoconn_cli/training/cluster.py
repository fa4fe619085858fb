"""Joins the processes of several hosts."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from evoconn_cli.errors import ConfigError, ExitCode, ProcessLostError
from evoconn_cli.runs.guarded import reason_of, within
from evoconn_cli.training.processes import OneProcess, Processes

if TYPE_CHECKING:
    from evoconn_cli.training.joined import JoinedProcesses

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)
_installed: list[object] = []
"""What C calls must not be collected."""


def explain_aborts(exit_code: int, explain: Callable[[], str]) -> None:
    """Has this process end with `exit_code` and what `explain` returns where it would end with SIGABRT."""

    def end(_: int) -> None:
        try:
            os.write(2, f"Error: {explain()}\n".encode())
        finally:
            os._exit(exit_code)

    handler = _HANDLER(end)
    _installed.append(handler)
    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes, set_handler.restype = [ctypes.c_int, _HANDLER], ctypes.c_void_p
    set_handler(signal.SIGABRT, handler)


JOINING_TIMEOUT = 300  # [s] from the first process to the last one
HEARTBEAT_TIMEOUT = 60  # [s] without a sign of life, after which a process counts as lost
_SHUTDOWN_TIMEOUT = 300  # [s] the others wait at the end, while process 0 closes the run

_SLURM_VARIABLES = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
"""What JAX reads of SLURM; without one of them it finds no cluster."""


class Cluster(NamedTuple):
    """The processes that train together; what is None is found in the environment."""

    coordinator: str | None  # HOST:PORT of process 0
    num_processes: int | None
    process_id: int | None


def choose_cluster(
    distributed: bool, coordinator: str | None, num_processes: int | None, process_id: int | None
) -> Cluster | None:
    """Returns the cluster that the options of the command line name; None for a process that trains alone.

    Raises:
        ConfigError: some of the options are missing, or do not go together.
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
    """Returns the processes that train together, when all of them have come.

    This must be before anything else of JAX runs.

    Raises:
        ConfigError: the cluster is not to be found, or its address cannot be used.
        ProcessLostError: some did not come.
    """
    if cluster is None or cluster.num_processes == 1:
        return OneProcess()
    if cluster.coordinator is not None:
        _check_address(cluster)
    return _connect(cluster)


def _connect(cluster: Cluster) -> JoinedProcesses:
    import jax

    from evoconn_cli.training.joined import JoinedProcesses

    joined: list[JoinedProcesses] = []
    at = f" at {cluster.coordinator}" if cluster.coordinator else ""

    def explain() -> str:
        if joined:
            return joined[0].describe_loss()
        return (
            f"not all processes have come together{at} within {JOINING_TIMEOUT} s. Start all of them, with the same "
            "address and number of processes, and look whether a firewall is between the hosts."
        )

    explain_aborts(ExitCode.PROCESS_LOST, explain)
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from us

    def initialize() -> None:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.num_processes,
            cluster.process_id,
            initialization_timeout=JOINING_TIMEOUT,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
            shutdown_timeout_seconds=_SHUTDOWN_TIMEOUT,
        )

    try:
        within(2.0 * JOINING_TIMEOUT, initialize)  # in a thread, so that Ctrl-C is heard meanwhile
    except KeyboardInterrupt:
        print("Quit.", flush=True)
        os._exit(ExitCode.QUIT)  # nothing has begun, and Python would wait for the thread
    except ValueError:
        if cluster.coordinator is not None:
            raise
        missing = [name for name in _SLURM_VARIABLES if name not in os.environ]
        found = "no cluster is to be found in the environment"
        if 0 < len(missing) < len(_SLURM_VARIABLES):
            found = f"the environment of SLURM lacks {', '.join(missing)}, which srun sets"
        raise ConfigError(
            f"--distributed: {found}. Name the processes instead: --coordinator HOST:PORT --num-processes N "
            "--process-id I."
        ) from None
    except (RuntimeError, TimeoutError) as error:
        raise ProcessLostError(f"the processes cannot come together{at}: {reason_of(error)}.") from None
    joined.append(JoinedProcesses())
    return joined[0]


def _check_address(cluster: Cluster) -> None:
    """Finds what JAX would not survive: a host that is not known, or a port that is taken."""
    assert cluster.coordinator is not None
    host, _, port = cluster.coordinator.rpartition(":")
    try:
        family, *_ = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:  # the latter for names such as a..b
        reason = error.strerror if isinstance(error, OSError) else "that is not the name of a host"
        raise ConfigError(f"--coordinator={cluster.coordinator}: {reason}.") from None
    if cluster.process_id == 0:
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("", int(port)))
            except OSError as error:
                raise ConfigError(
                    f"--coordinator={cluster.coordinator}: the port cannot be opened here: {error.strerror}. "
                    "Take another one, in all processes."
                ) from None
