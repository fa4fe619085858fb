"""Opens a saved run or a bundle for evaluating, rendering or exporting."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.config.formats import is_bundle
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.build import Engine, build_engine
from evoconn_cli.engine.devices import start_jax
from evoconn_cli.engine.episodes import candidates_key
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.state import RunState
from evoconn_cli.engine.strategies import Strategy
from evoconn_cli.engine.strategies.connectivity import ConnectivityState
from evoconn_cli.errors import (
    CheckpointError,
    ConfigError,
    DeletedCheckpointError,
    EvoconnError,
    NothingYetError,
    program,
)
from evoconn_cli.export.bundle.reading import Bundle, read_bundle
from evoconn_cli.networks import Candidates, Network, bits
from evoconn_cli.runs.directory import RunDirectory, locate, readable
from evoconn_cli.tasks import Task
from evoconn_cli.training.checkpoints import CheckpointStore


class FrozenState(NamedTuple):
    """State of a strategy that gives one network."""

    layers: dict[str, jax.Array]  # layer -> [1, W, post] uint32 packed connections
    evolved: ConnectivityState  # the probabilities that the connections come from; its moments are zeros

    @property
    def probs(self) -> dict[str, jax.Array]:
        """The evolved probabilities by layer."""
        return self.evolved.probs


def freeze(strategy: Strategy, state: RunState, bundle: Bundle) -> tuple[Strategy, RunState]:
    """Returns the strategy and the state of a run with the network of a bundle in their place.

    Args:
        strategy: EC, of the bundle's configuration.
        state: any state of that run.
        bundle: with the network.
    """

    def ask(key: jax.Array, state: FrozenState, members: jax.Array) -> Any:
        check_sampling(bundle)
        return strategy.ask(key, state.evolved, members)

    connectome = bundle.connectome
    frozen = FrozenState(
        layers={name: bits.pack(jnp.asarray(layer), axis=0)[None] for name, layer in connectome.layers.items()},
        evolved=state.strategy._replace(probs={name: jnp.asarray(p) for name, p in connectome.probs.items()}),
    )
    normalizer = state.normalizer._replace(mean=jnp.asarray(connectome.obs_mean), std=jnp.asarray(connectome.obs_std))
    return (
        dataclasses.replace(strategy, name="bundle", ask=ask, center=lambda state: state.layers),
        state._replace(strategy=frozen, normalizer=normalizer, generation=np.int32(connectome.generation)),
    )


def check_sampling(bundle: Bundle) -> None:
    """Checks that connections can be drawn from the probabilities of a bundle.

    Raises:
        EvoconnError: it was edited.
    """
    if bundle.edit:
        raise EvoconnError(
            f"{bundle.path} was edited, and sampled connections come from the probabilities, which know nothing of "
            "that. Use the deterministic policy, `--policy deterministic`."
        )


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
    if is_exported(path):
        return _open_bundle(path, step, workers or start_jax(None))
    with _saved(path, workers) as saved:
        return saved.open(step, note)


def open_checkpoints(
    path: Path,
    steps: str | None = None,
    workers: WorkerMesh | None = None,
    *,
    note: Callable[[str], None] = _warn,
) -> list[OpenedRun]:
    """Returns the run that `path` belongs to at all checkpoints that are asked for, each once, by generation.

    Args:
        path: as for `open_run`.
        steps: as for `open_run`, several of them with commas between, or `all`.
        workers: as for `open_run`.
        note: as for `open_run`.

    Raises:
        EvoconnError: as `open_run`.
    """
    if is_exported(path):
        return [open_run(path, steps, workers, note=note)]
    with _saved(path, workers) as saved:
        if steps is None:
            asked = [None]
        elif steps == "all" and saved.named is None:
            asked = [str(generation) for generation in saved.store.generations()]
        else:
            asked = [step.strip() for step in steps.split(",")]
        if "" in asked:
            raise ConfigError(
                f"--step {steps}: a name is missing beside a comma. Expected {STEPS}, several with commas between."
            )
        opened: dict[int, OpenedRun] = {}
        for one in asked:
            try:
                run = saved.open(one, note)
            except DeletedCheckpointError:
                if steps != "all":
                    raise
                continue
            opened[run.generation] = run
    return [opened[generation] for generation in sorted(opened)]


class _Saved(NamedTuple):
    """A run with its checkpoints, to be read."""

    path: Path  # as it was given
    named: int | None  # the generation that it names
    directory: RunDirectory
    config: RunConfig
    workers: WorkerMesh
    engine: Engine
    store: CheckpointStore

    def open(self, step: str | None, note: Callable[[str], None]) -> OpenedRun:
        """Returns the run as it was at one checkpoint."""
        if self.named is not None and step is not None and step != str(self.named):
            raise ConfigError(
                f"{self.path} is the checkpoint of generation {self.named} and --step says {step}: leave one out."
            )
        asked = str(self.named) if self.named is not None else "latest" if step is None else step
        state = self._restore(asked, note)
        engine, generation = self.engine, int(state.generation)
        return OpenedRun(
            self.directory, self.config, generation, engine.task, engine.network, engine.strategy, state, self.workers
        )

    def _restore(self, step: str, note: Callable[[str], None]) -> RunState:
        like, device = jax.eval_shape(self.engine.initial_state), self.workers.first_device
        while True:
            found = self.store.restore_latest(like, device, note, self.config) if step == "latest" else None
            if found is not None:
                return found.state
            generation = _find(self.store, self.directory, step)
            try:
                return self.store.restore(generation, like, device, self.config)[0]
            except DeletedCheckpointError:
                if step not in ("latest", "best"):  # these mean another one by now
                    raise


@contextlib.contextmanager
def _saved(path: Path, workers: WorkerMesh | None) -> Iterator[_Saved]:
    run_path, named = locate(path)
    directory = RunDirectory.open(run_path)
    config = directory.read_config()
    if directory.last_saved_generation() == 0:
        raise NothingYetError(
            f"the run {directory.short_path()} has no checkpoint yet; the first one comes at generation "
            f"{min(config.checkpoint.every, config.algo.generations)}. Go on with it: {program()} resume "
            f"{shlex.quote(directory.short_path())}"
        )
    workers = workers or start_jax(None)
    engine = _build(config, workers)
    store = CheckpointStore(directory.checkpoints)
    try:
        yield _Saved(path, named, directory, config, workers, engine, store)
    finally:
        store.close()


def is_exported(path: Path) -> bool:
    """Returns whether `path` is a bundle.

    Raises:
        RunDirectoryError: it cannot be looked at.
    """
    with readable(path):
        return is_bundle(path)


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


def candidates_of(opened: OpenedRun, policy: str, seed: int, episode: int = 0) -> Candidates:
    """Returns `[1, ...]` connections or weights.

    Args:
        opened: the run.
        policy: `deterministic`, or `sampled`.
        seed: of what is sampled, as of an evaluation.
        episode: number of the episode of that evaluation; each has a sample of its own.
    """
    if policy == "deterministic":
        return opened.strategy.center(opened.state.strategy)
    return opened.strategy.ask(candidates_key(seed), opened.state.strategy, jnp.array([episode], jnp.int32))
