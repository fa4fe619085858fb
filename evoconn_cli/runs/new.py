"""Opening a run for training: a new one, or one that goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from evoconn_cli.config.loading import override_config
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.errors import ConfigError, RunDirectoryError
from evoconn_cli.runs.build import choose_block
from evoconn_cli.runs.devices import describe_devices, start_jax
from evoconn_cli.runs.directory import RunDirectory, default_run_dir
from evoconn_cli.runs.kernel_choice import check_kernel
from evoconn_cli.runs.provenance import start_facts


class Run(NamedTuple):
    """A run that can be trained."""

    directory: RunDirectory
    config: RunConfig
    workers: WorkerMesh


def create_run(config: RunConfig, path: Path | None) -> Run:
    """Returns a new run in the directory `path`, or in a new one under runs/.

    Raises:
        ConfigError: more devices than there are, or a kernel that they cannot run.
        RunDirectoryError: the directory exists already or cannot be written.
    """
    RunDirectory(path or default_run_dir(config)).check_new()
    workers = start_jax(config.engine.devices)
    check_kernel(config, workers)
    # The block is part of the arithmetic, so a resumed run must not choose it anew.
    block = choose_block(config, workers)
    config = dataclasses.replace(config, engine=dataclasses.replace(config.engine, block=block))
    facts = {**start_facts(describe_devices(workers)), "status": "created", "wandb_id": None, "resumed": []}
    if path is not None:
        return Run(RunDirectory.create(path, config, facts), config, workers)
    while True:
        path = default_run_dir(config)
        try:
            return Run(RunDirectory.create(path, config, facts), config, workers)
        except RunDirectoryError:
            if not path.exists():
                raise  # otherwise another process took the name in this very second


def reopen_run(path: Path, overrides: Sequence[str], from_step: int | None = None) -> Run:
    """Returns the run in the directory `path`, to go on with some keys changed. Nothing is written yet.

    Args:
        path: of the run.
        overrides: `KEY=VALUE` entries.
        from_step: generation to go on from; None for the latest.

    Raises:
        ConfigError: a wrong value, or fewer generations than are done.
        RunDirectoryError: there is no run.
    """
    directory = RunDirectory.open(path)
    config = override_config(directory.read_config(), overrides)
    done = directory.last_saved_generation() if from_step is None else from_step
    if config.algo.generations < done:
        raise ConfigError(
            f"algo.generations={config.algo.generations}: the run has {done} generations already. Ask for more."
        )
    return Run(directory, config, start_jax(config.engine.devices))
