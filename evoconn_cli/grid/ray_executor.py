"""Runs cells as tasks on Ray."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from typing import Any

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.config.plugins import to_load
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.errors import ExitCode, GridError
from evoconn_cli.grid import Note
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.devices import has_jax_for_gpus
from evoconn_cli.grid.ray_worker import run_on_node
from evoconn_cli.grid.scheduler import Ended, Executor

_OBJECT_STORE = 100 * 2**20
"""Size of the object store of a Ray that is started here [bytes]; only exit codes pass through it."""

_PATIENCE = 10.0  # [s] for a cluster to answer
_TICK = 0.2  # [s] between looks at signals


class RayExecutor(Executor):
    """Runs cells as tasks of Ray, which places and queues them.

    Ray itself retries nothing: failures are counted in the directory of the cell, over all launches.

    Args:
        launch: How cells are run.
        note: Shows the user what happens.
        address: Address of a cluster, as `ray_cluster` takes it.
        program: Program with the command `run-cell`; that of each node by default.
    """

    def __init__(
        self, launch: LaunchConfig, note: Note, address: str | None = None, program: Sequence[str] | None = None
    ) -> None:
        self._launch = launch
        self._note = note
        self._address = address
        self._program = program
        self._ray: Any = None
        self._num_cpus, self._num_gpus = 1.0, 0.0  # that each cell asks for
        self._run: Any = None  # `run_on_node` as a remote function
        self._tasks: dict[Any, Cell] = {}

    def plan(self, cells: Sequence[Cell]) -> list[str]:
        """Returns what each of the cells would ask Ray for.

        Raises:
            GridError: Ray is not installed, or cannot be reached.
        """
        with self.session():
            pass
        share = f"{self._num_gpus:.3g} GPU" if self._num_gpus else f"{self._num_cpus:g} CPU"
        return [f"ray, {share}"] * len(cells)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Connects to Ray, and disconnects at the end.

        Raises:
            GridError: Ray is not installed, or cannot be reached.
        """
        with ray_cluster(self._address) as self._ray:
            cores_asked_for = os.environ.get("JAX_PLATFORMS", "").startswith("cpu")
            use_gpus = has_jax_for_gpus() and not cores_asked_for
            self._num_cpus, self._num_gpus = request_of_a_cell(self._launch, self._ray.nodes(), use_gpus)
            self._run = self._ray.remote(run_on_node).options(
                num_cpus=self._num_cpus, num_gpus=self._num_gpus, max_retries=0
            )
            yield

    def start(self, cell: Cell, saved: int) -> str:
        """Hands a cell to Ray, which starts it when a node has room."""
        task = self._run.remote(
            # The configuration stays here: Ray's worker does not have the classes of plug-ins.
            dataclasses.replace(cell, path=cell.path.absolute(), config=RunConfig()),
            self._launch,
            on_gpu=self._num_gpus > 0,
            program=self._program,
            plugins=to_load(),
            working_directory=os.getcwd(),
        )
        self._tasks[task] = cell
        self._note(f"{cell.name} is handed to Ray{f', to resume from generation {saved}' if saved else ''}")
        return "ray"

    def wait(self) -> list[Ended]:
        """Waits a moment, and returns the attempts whose tasks have ended."""
        if not self._tasks:
            time.sleep(_TICK)
            return []
        ended, _ = self._ray.wait(list(self._tasks), timeout=_TICK)
        return [self._end(task) for task in ended]

    def ask_to_end(self, cell: Cell) -> None:
        """Cancels the task of a cell, which saves and ends."""
        self._ray.cancel(next(task for task, one in self._tasks.items() if one == cell))

    def _end(self, task: Any) -> Ended:
        """Forgets a task that has ended, and returns how."""
        cell = self._tasks.pop(task)
        try:
            return Ended(cell, self._ray.get(task))
        except self._ray.exceptions.TaskCancelledError:
            return Ended(cell, ExitCode.SAVED_EARLY)
        except self._ray.exceptions.RayError as error:  # the worker or its node is gone, or could not run it
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return Ended(cell, ExitCode.PROCESS_LOST, lines[-1] if lines else type(error).__name__)


@contextmanager
def ray_cluster(address: str | None) -> Iterator[Any]:
    """Yields the module `ray`, connected.

    Args:
        address: Address of a cluster, as `ray.init` takes it; None for RAY_ADDRESS of the environment, or else a Ray on
            this machine that ends with this process.

    Raises:
        GridError: Ray is not installed, or cannot be reached.
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
        with chdir(os.sep):  # Ray puts the working directory on the module path of its workers
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _unreachable(address, str(error).strip().partition("\n")[0]) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def request_of_a_cell(launch: LaunchConfig, nodes: Sequence[Mapping[str, Any]], use_gpus: bool) -> tuple[float, float]:
    """Returns the CPUs and GPUs that each cell asks for: its share of a GPU if there are GPUs, else its cores.

    Args:
        launch: How cells are run.
        nodes: Nodes of the cluster, as `ray.nodes()` lists them.
        use_gpus: Whether cells can use GPUs.

    Raises:
        GridError: No node has a whole core.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    if use_gpus and any(node.get("GPU", 0) >= 1 for node in resources):
        return 1, 1 / launch.runs_per_device
    most = int(max((node.get("CPU", 0) for node in resources), default=0))
    if most < 1:
        raise GridError("no node of the Ray cluster has a core for tasks. Start Ray with --num-cpus.")
    return min(launch.cores_per_run, most), 0


def _check_listening(address: str) -> None:
    """Fails at once if nothing listens at an address; Ray itself takes a quarter of an hour.

    Raises:
        GridError: Nothing listens there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, f"{getattr(error, 'strerror', None) or error}.") from None


def _unreachable(address: str, reason: str) -> GridError:
    return GridError(f"no Ray can be reached at {address}: {reason} Is it running? Look at `ray status`.")
