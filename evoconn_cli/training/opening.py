"""Opens a run for training: its directory, configuration and devices, and the state it starts from."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.config.loading import config_from_yaml, config_to_yaml, override_config
from evoconn_cli.config.plugin_records import check_loaded, digest, to_facts
from evoconn_cli.config.reading import Overrides
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.build import Engine, choose_block
from evoconn_cli.engine.devices import arithmetic_variables, describe_devices, start_jax
from evoconn_cli.engine.kernel_choice import check_kernel
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.normalizer import NormalizerState
from evoconn_cli.engine.state import RunState
from evoconn_cli.errors import CheckpointError, ConfigError, RunDirectoryError, first_line, printable
from evoconn_cli.runs.directory import RunDirectory, default_run_dir
from evoconn_cli.runs.metrics import read_metrics, write_metrics
from evoconn_cli.runs.provenance import start_facts
from evoconn_cli.training.checkpoint_facts import as_yaml, what_shapes_a_run
from evoconn_cli.training.checkpoints import CheckpointStore, HostFacts
from evoconn_cli.training.cluster import connect_devices
from evoconn_cli.training.processes import Processes

T = TypeVar("T")


class TrainingRun(NamedTuple):
    """A run opened for training, in the process that writes it."""

    directory: RunDirectory
    config: RunConfig  # with the block chosen
    workers: WorkerMesh
    processes: Processes
    from_step: int | None = None  # generation to start from, 0 for the beginning; None for the latest checkpoint
    discard_later: bool = False  # delete what came after `from_step` instead of setting it aside


class Start(NamedTuple):
    """A connectome that a run starts from, and the normaliser that its observations go through."""

    connections: dict[str, np.ndarray]  # layer -> [pre, post] bool
    obs_mean: np.ndarray  # [O] float32
    obs_std: np.ndarray  # [O] float32
    obs_count: float  # observations that these come from
    origin: dict[str, Any]  # JSON values for run.json

    @property
    def digest(self) -> str:
        """SHA-256 of the connections."""
        found = hashlib.sha256()
        for name, layer in sorted(self.connections.items()):
            found.update(f"{name} {layer.shape}".encode() + np.packbits(layer).tobytes())
        return found.hexdigest()

    def to_bytes(self) -> bytes:
        """Returns the content of init.npz."""
        file = io.BytesIO()
        layers = {f"{_LAYER}{name}": layer for name, layer in self.connections.items()}
        normalizer = {"mean": self.obs_mean, "std": self.obs_std, "count": np.float32(self.obs_count)}
        np.savez_compressed(file, allow_pickle=False, **layers, **normalizer)
        return file.getvalue()


_LAYER = "connections."
"""Prefix of layers in init.npz."""

_DIGITS = 12
"""Hex digits of the digest in the configuration."""

ReadStart: TypeAlias = Callable[[RunConfig, WorkerMesh], Start]


def create_run(
    config: RunConfig, path: Path | None, processes: Processes | None = None, *, read_start: ReadStart | None = None
) -> TrainingRun:
    """Returns a new run in the directory `path`, or in a new one under runs/.

    Args:
        config: Configuration of the run; the block is chosen here if it is null.
        path: Directory that does not exist yet or is empty.
        processes: Processes that train the run, of which this is the writer; this one alone by default.
        read_start: Returns the connectome to start from; None to start as the strategy does.

    Raises:
        ConfigError: there are too few devices, they cannot run the kernel, or the connectome does not fit.
        RunDirectoryError: the directory is not empty or cannot be written.
    """
    processes = processes or Processes()
    _in_new_directory(path, config, lambda chosen: RunDirectory(chosen).check_new())
    config, workers = _start_writer(config, processes)
    facts = start_facts(describe_devices(workers), arithmetic_variables())
    facts |= {"status": "created", "wandb_id": None, "resumed": []}
    start = None if read_start is None else read_start(config, workers)
    config = _with_digest(config, start)
    if start is not None:
        facts["init"] = {**start.origin, "sha256": start.digest}
    init = None if start is None else start.to_bytes()
    directory = _in_new_directory(path, config, lambda chosen: RunDirectory.create(chosen, config, facts, init))
    return TrainingRun(directory, config, workers, processes)


def _with_digest(config: RunConfig, start: Start | None) -> RunConfig:
    """Returns the configuration with the digest of the connectome that the run starts from."""
    given = _digest_in(config)
    found = None if start is None else start.digest[:_DIGITS]
    if given is not None and given != found:
        raise ConfigError(
            f"algo.initial_connectome={given}: the run would start "
            + ("without a connectome" if found is None else f"from the connectome {found}")
            + ". Give --init that one, or leave the key out."
        )
    if found is None:
        return config
    return dataclasses.replace(config, algo=dataclasses.replace(config.algo, initial_connectome=found))


def _digest_in(config: RunConfig) -> str | None:
    return getattr(config.algo, "initial_connectome", None)  # strategies of plug-ins need not have it


def _in_new_directory(path: Path | None, config: RunConfig, use: Callable[[Path], T]) -> T:
    """Returns `use(path)`, or of a new directory under runs/: of the next one if another process takes its name."""
    while True:
        chosen = path or default_run_dir(config)
        try:
            return use(chosen)
        except RunDirectoryError:
            if path is not None or not chosen.exists():
                raise


def reopen_run(
    path: Path,
    overrides: Overrides,
    *,
    from_step: int | None = None,
    discard_later: bool = False,
    processes: Processes | None = None,
) -> TrainingRun:
    """Returns the run in the directory `path`, to be resumed with some keys changed. Nothing is written yet.

    Args:
        path: Directory of the run.
        overrides: `KEY=VALUE` entries, or values by key.
        from_step: Generation to resume from, 0 for the beginning; the latest checkpoint by default.
        discard_later: Whether to delete what came later instead of setting it aside.
        processes: Processes that train the run, of which this is the writer; this one alone by default.

    Raises:
        ConfigError: a wrong value, one that would make it another run, or fewer generations than are done.
        RunDirectoryError: there is no run.
    """
    processes = processes or Processes()
    directory = RunDirectory.open(path)
    before = directory.read_config()
    config = override_config(before, overrides)
    _check_same_run(before, config)
    done = directory.last_saved_generation() if from_step is None else from_step
    if config.algo.generations < done:
        raise ConfigError(
            f"algo.generations={config.algo.generations}: the run has {done} generations already. Ask for more."
        )
    config, workers = _start_writer(config, processes)
    return TrainingRun(directory, config, workers, processes, from_step, discard_later)


def join_run(processes: Processes) -> tuple[RunConfig, WorkerMesh]:
    """Returns configuration and devices of the run that the writer has opened, in a process without run directory.

    Raises:
        ConfigError: This process has not loaded a plug-in that the run uses.
        TrainingError: It has another version of one than the writer.
    """
    uses, _, text = processes.broadcast(b"").decode().partition("\n")
    check_loaded(json.loads(uses), "the run of process 0")
    return _start(config_from_yaml(text), processes)


def _check_same_run(before: RunConfig, now: RunConfig) -> None:
    was, wanted = what_shapes_a_run(before), what_shapes_a_run(now)
    changed = [key for key in wanted.keys() | was.keys() if wanted.get(key) != was.get(key)]
    if changed:
        key = min(changed)
        raise ConfigError(
            f"{key}={as_yaml(wanted.get(key))}: the run has {key}={as_yaml(was.get(key))}, and another value would "
            "make it another run. Start that with evoconn train."
        )


def _start_writer(config: RunConfig, processes: Processes) -> tuple[RunConfig, WorkerMesh]:
    """Starts JAX here, and in the other processes with the configuration of this one."""
    if processes.count > 1:
        processes.broadcast(f"{json.dumps(to_facts(config))}\n{config_to_yaml(config)}".encode())
    return _start(config, processes)


def _start(config: RunConfig, processes: Processes) -> tuple[RunConfig, WorkerMesh]:
    processes.check_same(digest(config), "a plug-in", "Give the same files, and install the same packages, everywhere.")
    workers = start_jax(config.engine.devices, num_processes=processes.count)
    check_kernel(config, workers)
    connect_devices(processes, workers)
    # The block is part of the arithmetic, so a resumed run keeps it.
    block = choose_block(config, workers)
    return dataclasses.replace(config, engine=dataclasses.replace(config.engine, block=block)), workers


def starting_state(
    run: TrainingRun, store: CheckpointStore, initial: RunState, note: Callable[[str], None]
) -> tuple[RunState, HostFacts]:
    """Returns the state that the next generation starts from.

    Later checkpoints and metrics, after `run.from_step` or because the latest checkpoints are damaged, are set aside.

    Args:
        run: Run that is trained.
        store: Its checkpoints, open for writing.
        initial: State before the first generation, on the device for the state.
        note: Called with messages for the user.

    Raises:
        CheckpointError: a checkpoint is missing, damaged or of another run.
        RunDirectoryError: the directory cannot be written.
    """
    device = run.workers.first_device
    state, host = initial, HostFacts()
    if run.from_step is None:
        found = store.restore_latest(initial, device, note, run.config)
        if found is None:
            return state, host
        state, host = found.state, found.host
        if not found.damaged:
            return state, host
    elif run.from_step > 0:
        saved = store.generations()
        if run.from_step not in saved:
            names = ", ".join(map(str, saved)) or "none"
            raise CheckpointError(
                f"generation {run.from_step} is not saved in {run.directory.path}. Saved: {names}; 0 is the beginning."
            )
        state, host = store.restore(run.from_step, initial, device, run.config)
    done = _set_aside_later(run.directory, store, int(state.generation), discard=run.discard_later)
    if done is not None:
        note(done)
    return state, host


def start_from_connectome(run: TrainingRun, engine: Engine, state: RunState) -> tuple[RunState, str | None]:
    """Returns a state before the first generation near the connectome of `--init`, and a message about it.

    The state of any other run, or of one that has been trained, is returned as it is, without a message.

    Raises:
        RunDirectoryError: init.npz is missing, or is not what the run was created with.
    """
    digest, file = _digest_in(run.config), run.directory.init_file
    if digest is None or int(state.generation) > 0:
        return state, None
    try:
        with file.open("rb") as opened, np.load(opened) as arrays:
            layers = {n.removeprefix(_LAYER): arrays[n].astype(bool) for n in arrays if n.startswith(_LAYER)}
            start = Start(layers, arrays["mean"], arrays["std"], float(arrays["count"]), {})
    except Exception as error:  # damaged files raise any type
        raise _no_start(file, f"cannot be read ({first_line(error)})") from None
    init_near = engine.strategy.init_near
    if start.digest[:_DIGITS] != digest or init_near is None:
        raise _no_start(file, "has another connectome than the run started from")
    std, count = jnp.asarray(start.obs_std), jnp.float32(start.obs_count)
    normalizer = NormalizerState(count, jnp.asarray(start.obs_mean), std * std * count, std)
    near = init_near(state.strategy, {name: jnp.asarray(layer) for name, layer in layers.items()})
    origin = run.directory.read_facts().get("init")
    named = origin.get("from") if isinstance(origin, dict) else None
    certainty = getattr(run.config.algo, "initial_certainty", None)
    return (
        jax.device_put(state._replace(strategy=near, normalizer=normalizer), run.workers.first_device),
        f"starts from the connectome of {printable(str(named or digest))} with algo.initial_certainty={certainty}, and "
        "from its normaliser.",
    )


def _no_start(file: Path, why: str) -> RunDirectoryError:
    return RunDirectoryError(f"{file} {why}, and the run has no checkpoint to resume from. Start it again with --init.")


def _free_path(path: Path) -> Path:
    """Returns `path` if it does not exist, otherwise it with the first of the endings -2, -3, ... that is free."""
    free, number = path, 2
    while free.exists():
        free, number = path.with_name(f"{path.name}-{number}"), number + 1
    return free


def _set_aside_later(directory: RunDirectory, store: CheckpointStore, generation: int, *, discard: bool) -> str | None:
    """Moves checkpoints and metrics of generations after `generation` into a dated folder of `set-aside`.

    The newest checkpoint goes first. If the process dies meanwhile, the run merely ends a little after `generation`.

    Args:
        directory: Directory of the run.
        store: Its checkpoints.
        generation: Last generation to keep.
        discard: Whether to delete them instead.

    Returns:
        A message about what was done; None if nothing came later.

    Raises:
        RunDirectoryError: the directory cannot be written.
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
        folder = _free_path(directory.set_aside / time.strftime("%Y%m%d-%H%M%S"))
        folder.mkdir(parents=True)
        write_metrics(lines, folder / directory.metrics_file.name)
        for later in reversed(checkpoints):
            target = folder / directory.checkpoints.name
            target.mkdir(exist_ok=True)
            store.path(later).rename(target / str(later))
    except OSError as error:
        raise RunDirectoryError(f"cannot set aside what came after generation {generation}: {error}.") from None
    return f"going back to generation {generation}; set aside in {folder}: {what}."
