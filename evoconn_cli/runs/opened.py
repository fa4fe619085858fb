"""Opening a saved run for use: from a path and a step to everything that evaluating, rendering or exporting needs."""

from __future__ import annotations

import dataclasses
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.state import RunState
from evoconn_cli.engine.strategies import Strategy
from evoconn_cli.errors import CheckpointError, ConfigError, RunDirectoryError
from evoconn_cli.export.bundle.reading import Bundle, is_bundle, read_bundle
from evoconn_cli.networks import Network
from evoconn_cli.runs.build import Engine, build_engine
from evoconn_cli.runs.checkpoints.store import CheckpointStore
from evoconn_cli.runs.devices import start_jax
from evoconn_cli.runs.directory import RunDirectory, readable
from evoconn_cli.runs.frozen import freeze
from evoconn_cli.tasks import Task

STEPS = "latest, best or the number of a generation that is saved"
"""What a step may be, in words."""


class OpenedRun(NamedTuple):
    """A run as it was at one of its checkpoints."""

    directory: RunDirectory
    config: RunConfig
    generation: int  # of the checkpoint
    task: Task  # with its episode limit
    network: Network
    strategy: Strategy
    state: RunState  # on the first device of `workers`
    workers: WorkerMesh
    bundle: Bundle | None = None  # that the network comes from; None for a checkpoint of a run


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)


def open_run(
    path: Path,
    step: str | None = None,
    workers: WorkerMesh | None = None,
    *,
    note: Callable[[str], None] = _warn,
) -> OpenedRun:
    """Returns the run that `path` belongs to, as it was at one checkpoint, or a bundle. Nothing is written.

    Where the latest checkpoint is damaged and no other is asked for, the one before is taken.

    Args:
        path: a run directory, its `checkpoints` directory, or one step in that, such as `checkpoints/40`; or a bundle
            that `evoconn export-connectivity` wrote, edited or not.
        step: `latest` (default), `best` by evaluation fitness, or a generation; the path's own where it names one.
        workers: the devices; those of this machine by default, whatever the run was trained on.
        note: is told about each damaged checkpoint that is passed over; a Python warning by default.

    Raises:
        CheckpointError: no such step, or one that is damaged or of another run.
        ConfigError: a step that cannot be read, or a configuration that was edited into nonsense.
        RunDirectoryError: the path is not part of a run.
        EvoconnError: a bundle that cannot be read.
    """
    with readable(path):
        is_exported = is_bundle(path)
    if is_exported:
        return _open_bundle(path, step, workers or start_jax(None))
    run_path, named = locate(path)
    if named is not None and step is not None and step != str(named):
        raise ConfigError(f"{path} is the checkpoint of generation {named} and --step says {step}: leave one out.")
    directory = RunDirectory.open(run_path)
    config = directory.read_config()
    workers = workers or start_jax(None)
    engine = _build(config, workers)
    if directory.last_saved_generation() == 0:
        raise CheckpointError(
            f"the run {directory.short_path()} has no checkpoint yet; the first one comes at generation "
            f"{min(config.checkpoint.every, config.algo.generations)}. Go on with it: evoconn resume "
            f"{shlex.quote(directory.short_path())}"
        )
    store = CheckpointStore(directory.checkpoints)
    try:
        like = jax.eval_shape(engine.initial_state)
        asked = str(named) if named is not None else step or "latest"
        found = store.restore_latest(like, workers.first_device, note, config) if asked == "latest" else None
        if found is None:
            state, _ = store.restore(_find(store, directory, asked), like, workers.first_device, config)
        else:
            state = found.state
    finally:
        store.close()
    return OpenedRun(
        directory, config, int(state.generation), engine.task, engine.network, engine.strategy, state, workers
    )


def _open_bundle(path: Path, step: str | None, workers: WorkerMesh) -> OpenedRun:
    """Returns the network of a bundle as a run that learns no more."""
    if step is not None:
        raise ConfigError(f"{path} is a bundle, which holds one network, and --step says {step}: leave it out.")
    bundle = read_bundle(path)
    config = bundle.connectome.config
    engine = _build(config, workers)
    strategy, state = freeze(engine.strategy, engine.initial_state(), bundle)
    return OpenedRun(
        directory=RunDirectory(path),
        config=config,
        generation=bundle.connectome.generation,
        task=engine.task,
        network=engine.network,
        strategy=strategy,
        state=jax.device_put(state, workers.first_device),
        workers=workers,
        bundle=bundle,
    )


def _build(config: RunConfig, workers: WorkerMesh) -> Engine:
    """Returns an engine without the GPU kernel of a training, which need not run here and does not record neurons."""
    given = dataclasses.replace(config.engine, block=config.engine.block or 1, kernel="xla")
    return build_engine(dataclasses.replace(config, engine=given), workers)


def locate(path: Path) -> tuple[Path, int | None]:
    """Returns the run directory that `path` belongs to, and the generation where it names one.

    Raises:
        RunDirectoryError: it is not part of a run, or may not be looked at.
    """
    with readable(path):
        whole = path.absolute()
        step = int(whole.name) if whole.name.isdecimal() and whole.parent.name == "checkpoints" else None
        checkpoints = whole if step is None else whole.parent
        if checkpoints.name == "checkpoints" and (checkpoints.parent / "config.yaml").is_file():
            return checkpoints.parent, step
        if not whole.exists():
            raise RunDirectoryError(f"no run at {path}: there is no such file or directory.")
        if is_bundle(whole):
            raise RunDirectoryError(
                f"{path} is an exported bundle, which has no training. Name the run that it comes from."
            )
        if not (whole / "config.yaml").is_file():
            owner = next((parent for parent in whole.parents if (parent / "config.yaml").is_file()), None)
            hint = (
                f"It is inside the run {owner}: name that, its checkpoints directory, or one step in there."
                if owner and (owner / "checkpoints").is_dir()
                else "Name a directory that `evoconn train` made, its checkpoints directory, or one step in there; "
                "the run's config.yaml says how to read its checkpoints, so keep them together."
            )
            raise RunDirectoryError(f"{path} is not a run or a checkpoint of evoconn. {hint}")
        return whole, None


def _find(store: CheckpointStore, directory: RunDirectory, step: str) -> int:
    """Returns the generation that `step` means.

    Raises:
        CheckpointError: it is not saved.
        ConfigError: it says something else than `STEPS`.
    """
    saved = store.generations()
    names = ", ".join(str(generation) for generation in saved) or "none"
    if step == "latest":
        found = store.latest()
    elif step == "best":
        found = store.best()
    elif step.isdecimal():
        found = int(step) if int(step) in saved else None
    else:
        raise ConfigError(f"--step {step}: expected {STEPS}. Saved in {directory.short_path()}: {names}.")
    if found is None:
        asked = f"generation {step}" if step.isdecimal() else f"{step} checkpoint"
        raise CheckpointError(f"the run {directory.short_path()} has no {asked}. Saved: {names}.")
    return found
