"""Opening a run for training: a new one, or one that goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from evoconn_cli.config.loading import override_config
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.errors import ConfigError
from evoconn_cli.runs.build import choose_block
from evoconn_cli.runs.devices import describe_devices, start_jax
from evoconn_cli.runs.directory import RunDirectory, default_run_dir, start_facts


class Run(NamedTuple):
    """A run that can be trained."""

    directory: RunDirectory
    config: RunConfig
    workers: WorkerMesh


def create_run(config: RunConfig, path: Path | None) -> Run:
    """Returns a new run in the directory `path`, or in a new one under runs/.

    Raises:
        ConfigError: more devices than there are.
        RunDirectoryError: the directory exists already or cannot be written.
    """
    path = path or default_run_dir(config)
    RunDirectory(path).check_new()
    workers = start_jax(config.engine.devices)
    # The block is part of the arithmetic, so a resumed run must not choose it anew.
    block = choose_block(config, workers)
    config = dataclasses.replace(config, engine=dataclasses.replace(config.engine, block=block))
    facts = {**start_facts(describe_devices(workers)), "status": "created", "wandb_id": None, "resumed": []}
    return Run(RunDirectory.create(path, config, facts), config, workers)


def reopen_run(path: Path, overrides: Sequence[str]) -> Run:
    """Returns the run in the directory `path`, to go on with some keys changed, which its config.yaml then has too.

    Raises:
        ConfigError: a wrong value, or fewer generations than are done.
        RunDirectoryError: there is no run.
    """
    directory = RunDirectory.open(path)
    before = directory.read_config()
    config = override_config(before, overrides)
    done = directory.last_saved_generation()
    if config.algo.generations < done:
        raise ConfigError(
            f"algo.generations={config.algo.generations}: the run has {done} generations already. Ask for more."
        )
    workers = start_jax(config.engine.devices)
    if config != before:
        directory.write_config(config)
    facts = directory.read_facts()
    directory.update_facts(resumed=[*facts.get("resumed", []), start_facts(describe_devices(workers))])
    return Run(directory, config, workers)
