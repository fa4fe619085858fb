"""Opening a run for training: a new one, or one that goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from evoconn_cli.config.loading import config_from_yaml, config_to_yaml, override_config
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.errors import ConfigError, RunDirectoryError
from evoconn_cli.runs.build import choose_block
from evoconn_cli.runs.checkpoints.facts import what_shapes_a_run
from evoconn_cli.runs.devices import arithmetic_variables, describe_devices, start_jax
from evoconn_cli.runs.directory import RunDirectory, default_run_dir
from evoconn_cli.runs.kernel_choice import check_kernel
from evoconn_cli.runs.processes.protocol import OneProcess, Processes
from evoconn_cli.runs.processes.sharing import connect_devices
from evoconn_cli.runs.provenance import start_facts


class Run(NamedTuple):
    """A run that can be trained."""

    directory: RunDirectory
    config: RunConfig
    workers: WorkerMesh


def create_run(config: RunConfig, path: Path | None, processes: Processes | None = None) -> Run:
    """Returns a new run in the directory `path`, or in a new one under runs/.

    Args:
        config: of the run; the block is chosen here where it is not set.
        path: that does not exist yet, or is an empty directory.
        processes: that train the run; this is their writer.

    Raises:
        ConfigError: more devices than there are, or a kernel that they cannot run.
        RunDirectoryError: the directory holds something already or cannot be written.
    """
    RunDirectory(path or default_run_dir(config)).check_new()
    config, workers = _start_writer(config, processes or OneProcess())
    facts = {
        **start_facts(describe_devices(workers), arithmetic_variables()),
        "status": "created",
        "wandb_id": None,
        "resumed": [],
    }
    if path is not None:
        return Run(RunDirectory.create(path, config, facts), config, workers)
    while True:
        path = default_run_dir(config)
        try:
            return Run(RunDirectory.create(path, config, facts), config, workers)
        except RunDirectoryError:
            if not path.exists():
                raise  # otherwise another process took the name in this very second


def reopen_run(
    path: Path, overrides: Sequence[str], from_step: int | None = None, processes: Processes | None = None
) -> Run:
    """Returns the run in the directory `path`, to go on with some keys changed. Nothing is written yet.

    Args:
        path: of the run.
        overrides: `KEY=VALUE` entries.
        from_step: generation to go on from; None for the latest.
        processes: that train the run; this is their writer.

    Raises:
        ConfigError: a wrong value, one that would make it another run, or fewer generations than are done.
        RunDirectoryError: there is no run.
    """
    directory = RunDirectory.open(path)
    before = directory.read_config()
    config = override_config(before, overrides)
    _check_same_run(before, config)
    done = directory.last_saved_generation() if from_step is None else from_step
    if config.algo.generations < done:
        raise ConfigError(
            f"algo.generations={config.algo.generations}: the run has {done} generations already. Ask for more."
        )
    return Run(directory, *_start_writer(config, processes or OneProcess()))


def _check_same_run(before: RunConfig, now: RunConfig) -> None:
    was, wanted = what_shapes_a_run(before), what_shapes_a_run(now)
    changed = [key for key in wanted.keys() | was.keys() if wanted.get(key) != was.get(key)]
    if changed:
        key = min(changed)
        old, new = _as_written(was.get(key)), _as_written(wanted.get(key))
        raise ConfigError(
            f"{key}={new}: the run has {key}={old}, and with another value it would be another run. Start that with "
            "evoconn train."
        )


def _as_written(value: object) -> object:
    return "null" if value is None else value


def join_run(processes: Processes) -> tuple[RunConfig, WorkerMesh]:
    """Returns what the writer of a run has opened, in a process that has no run directory."""
    return _start(config_from_yaml(processes.broadcast(b"").decode()), processes)


def _start_writer(config: RunConfig, processes: Processes) -> tuple[RunConfig, WorkerMesh]:
    """Starts JAX here, and in the other processes with the configuration of this one."""
    if processes.count > 1:
        processes.broadcast(config_to_yaml(config).encode())
    return _start(config, processes)


def _start(config: RunConfig, processes: Processes) -> tuple[RunConfig, WorkerMesh]:
    workers = start_jax(config.engine.devices, num_processes=processes.count)
    check_kernel(config, workers)
    connect_devices(processes, workers)
    # The block is part of the arithmetic, so a resumed run must not choose it anew.
    block = choose_block(config, workers)
    return dataclasses.replace(config, engine=dataclasses.replace(config.engine, block=block)), workers
