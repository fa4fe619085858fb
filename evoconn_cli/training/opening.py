"""Creates or reopens a run for training, and chooses the checkpoint it starts from."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from evoconn_cli.config.loading import config_from_yaml, config_to_yaml, override_config
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.build import choose_block
from evoconn_cli.engine.devices import arithmetic_variables, describe_devices, start_jax
from evoconn_cli.engine.kernel_choice import check_kernel
from evoconn_cli.engine.mesh import Device, WorkerMesh
from evoconn_cli.engine.state import RunState
from evoconn_cli.errors import CheckpointError, ConfigError, RunDirectoryError
from evoconn_cli.runs.directory import RunDirectory, default_run_dir
from evoconn_cli.runs.metrics import read_metrics, write_metrics
from evoconn_cli.runs.provenance import start_facts
from evoconn_cli.training.checkpoint_facts import what_shapes_a_run
from evoconn_cli.training.checkpoints import CheckpointStore, HostFacts
from evoconn_cli.training.processes import OneProcess, Processes, connect_devices


def set_aside_later(directory: RunDirectory, store: CheckpointStore, generation: int, *, discard: bool) -> str | None:
    """Moves checkpoints and metrics of generations beyond `generation` into a dated folder of `set-aside`.

    The newest checkpoint goes first: if the process dies on the way, the run is one that ended a little later than
    `generation`, and nothing is lost.

    Args:
        directory: of the run.
        store: of the run.
        generation: the last one that stays.
        discard: delete them instead.

    Returns:
        What was done, for the user; None where there was nothing to do.

    Raises:
        RunDirectoryError: it cannot be written.
    """
    checkpoints = [later for later in store.generations() if later > generation]
    lines = read_metrics(directory.metrics_file, after=generation)
    if not checkpoints and not lines:
        return None
    what = f"{len(checkpoints)} checkpoint{'s' * (len(checkpoints) != 1)} and {len(lines)} lines of metrics"
    try:
        if discard:
            for later in reversed(checkpoints):
                store.delete(later)
            return f"going back to generation {generation}; discarded: {what}."
        folder = _new_folder(directory.set_aside)
        write_metrics(lines, folder / directory.metrics_file.name)
        for later in reversed(checkpoints):
            target = folder / directory.checkpoints.name
            target.mkdir(exist_ok=True)
            store.path(later).rename(target / str(later))
    except OSError as error:
        raise RunDirectoryError(f"cannot take away what came after generation {generation}: {error}.") from None
    return f"going back to generation {generation}; set aside in {folder}: {what}."


def _new_folder(parent: Path) -> Path:
    stamp, number = time.strftime("%Y%m%d-%H%M%S"), 1
    while True:
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        return folder


def starting_point(
    directory: RunDirectory,
    store: CheckpointStore,
    config: RunConfig,
    initial: RunState,
    device: Device,
    note: Callable[[str], None],
    *,
    from_step: int | None = None,
    discard_later: bool = False,
) -> tuple[RunState, HostFacts]:
    """Returns the state that the next generation starts from.

    What came later, at `from_step` or where the latest checkpoints are damaged, is out of the way afterwards.

    Args:
        directory: of the run.
        store: of the run, open for writing.
        config: of the run.
        initial: the state before the first generation.
        device: that holds the state.
        note: is told what the user has to know.
        from_step: generation to start from, 0 for the beginning; None for the latest.
        discard_later: delete what came later instead of setting it aside.

    Raises:
        CheckpointError: a checkpoint is missing, damaged or of another run.
        RunDirectoryError: the directory cannot be written.
    """
    if from_step is None:
        found = store.restore_latest(initial, device, note, config)
        if found is None:
            return initial, HostFacts()
        state, host = found.state, found.host
        if not found.damaged:
            return state, host
    elif from_step == 0:
        state, host = initial, HostFacts()
    else:
        saved = store.generations()
        if from_step not in saved:
            names = ", ".join(map(str, saved)) or "none"
            raise CheckpointError(
                f"generation {from_step} is not saved in {directory.path}. Saved: {names}; 0 is the beginning."
            )
        state, host = store.restore(from_step, initial, device, config)
    done = set_aside_later(directory, store, int(state.generation), discard=discard_later)
    if done is not None:
        note(done)
    return state, host


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
