"""Runs the cells of a grid as tasks on Ray."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from typing import Any, NamedTuple

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.errors import EvoconnError, ExitCode, GridError
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.devices import has_jax_for_gpus
from evoconn_cli.grid.executor import ENDING, Begun, pause_before_next, record_unbegun
from evoconn_cli.grid.gpus import Note
from evoconn_cli.grid.ray_worker import run_on_node
from evoconn_cli.grid.states import State, read_status
from evoconn_cli.runs.signals import Interrupts

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


_TICK = 0.2  # [s] between looks at signals
_LOOK_AGAIN = 5.0  # [s] between looks at a cell that another process runs


class RayPool:
    """Runs cells as tasks of Ray.

    Ray itself retries nothing: how often a cell may fail is for its own attempts to say, over all launches.

    Args:
        launch: how cells are run.
        address: of a cluster, as `ray_cluster` takes it.
        program: the command line; that of each node by default.
    """

    def __init__(self, launch: LaunchConfig, address: str | None = None, program: Sequence[str] | None = None):
        self._launch = launch
        self._address = address
        self._program = program
        self._waiting: list[tuple[float, Cell]] = []  # not before this time
        self._tasks: dict[Any, Begun] = {}
        self._left_out: dict[Cell, str] = {}

    def plan(self, cells: Sequence[Cell]) -> list[str]:
        """Returns what each of the cells would ask Ray for.

        Raises:
            GridError: Ray is not installed, or not to be reached.
        """
        with ray_cluster(self._address) as ray:
            request = self._request(ray)
        share = f"{request.num_gpus:.3g} GPU" if request.num_gpus else f"{request.num_cpus:g} CPU"
        return [f"ray, {share}"] * len(cells)

    def run(self, cells: Sequence[Cell], note: Note) -> dict[Cell, str]:
        """Runs cells until each is finished, has failed too often, or this process is asked to end.

        The first signal lets the running cells save; a second Ctrl-C does not wait for them.

        Args:
            cells: that are not finished; those that run already are waited for.
            note: is told what happens.

        Returns:
            The cells that could not be run, and why.

        Raises:
            GridError: Ray is not installed, or not to be reached.
        """
        self._waiting = [(0.0, cell) for cell in cells]
        with ray_cluster(self._address) as ray, Interrupts() as interrupts:
            interrupts.training = True  # so that only a second Ctrl-C interrupts
            request = self._request(ray)
            run = ray.remote(run_on_node).options(**request._asdict(), max_retries=0)
            is_ending = False
            while self._tasks or self._waiting:
                if interrupts.requested and not is_ending:
                    is_ending = True
                    self._ask_to_end(ray, note)
                self._submit_due(run, request, note)
                self._wait(ray, note, ending=is_ending)
        return self._left_out

    def _request(self, ray: Any) -> Request:
        cores_asked_for = os.environ.get("JAX_PLATFORMS", "").startswith("cpu")
        return request_of_a_cell(self._launch, ray.nodes(), has_jax_for_gpus() and not cores_asked_for)

    def _submit_due(self, run: Any, request: Request, note: Note) -> None:
        """Hands over the cells that need not wait, and that no other process runs."""
        now = time.monotonic()
        due = [cell for start, cell in self._waiting if start <= now]
        self._waiting = [(start, cell) for start, cell in self._waiting if start > now]
        for cell in due:
            status = read_status(cell)
            if status.state is State.RUNNING:
                self._waiting.append((now + _LOOK_AGAIN, cell))
            elif status.is_due(self._launch.retries):
                found_anywhere = dataclasses.replace(cell, path=cell.path.absolute())
                task = run.remote(found_anywhere, self._launch, request.num_gpus > 0, self._program, os.getcwd())
                self._tasks[task] = Begun(cell, "ray", status.attempts, status.saved)
                note(f"{cell.name} is handed to Ray{f', from generation {status.saved}' if status.saved else ''}")

    def _wait(self, ray: Any, note: Note, *, ending: bool) -> None:
        """Takes in the tasks that end within a moment."""
        if not self._tasks:
            time.sleep(_TICK)
            return
        ended, _ = ray.wait(list(self._tasks), timeout=_TICK)
        for reference in ended:
            task = self._tasks.pop(reference)
            try:
                exit_code, reason = ray.get(reference), ""
            except ray.exceptions.TaskCancelledError:
                exit_code, reason = ExitCode.SAVED_EARLY, ""
            except ray.exceptions.RayError as error:  # the worker or its node is gone, or could not run it
                exit_code, reason = ExitCode.PROCESS_LOST, _last_line(error)
            try:
                record_unbegun(task, exit_code)
            except EvoconnError as error:
                self._left_out[task.cell] = str(error)
                note(f"{task.cell.name} is left out: {error}")
                continue
            self._look_at_result(task, reason, note, ending=ending)

    def _look_at_result(self, task: Begun, reason: str, note: Note, *, ending: bool) -> None:
        """Says how an attempt ended, and lets the cell wait for its next one."""
        status = read_status(task.cell)
        pause: float | None = None if ending else 0.0
        if status.state is State.RUNNING:
            lost = f"has lost its worker ({reason}), and saves"
            note(f"{task.cell.name} {lost if reason else 'is trained by another process'}")
        else:
            pause = pause_before_next(task, status, self._launch, note, ending=ending, reason=reason)
        if pause is not None:
            self._waiting.append((time.monotonic() + pause, task.cell))

    def _ask_to_end(self, ray: Any, note: Note) -> None:
        self._waiting.clear()
        if self._tasks:
            note(ENDING)
        for task in self._tasks:
            ray.cancel(task)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
