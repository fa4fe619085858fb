"""Opens a saved run or a bundle for use."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.config.formats import is_bundle
from evoconn_cli.config.plugin_records import changed_plugins
from evoconn_cli.config.plugins import plugin_options
from evoconn_cli.config.registry import zoo_dir
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.build import Engine, build_engine
from evoconn_cli.engine.devices import start_jax
from evoconn_cli.engine.episodes import candidates_key
from evoconn_cli.engine.mesh import WorkerMesh
from evoconn_cli.engine.policy import PolicyParams
from evoconn_cli.engine.state import RunState
from evoconn_cli.engine.strategies import Strategy
from evoconn_cli.errors import (
    CheckpointError,
    ConfigError,
    DeletedCheckpointError,
    EvoconnError,
    NothingYetError,
    program,
)
from evoconn_cli.export.bundle.reading import Bundle, Edit, read_bundle
from evoconn_cli.networks import Candidates, Network, bits
from evoconn_cli.runs.directory import RunDirectory, locate, readable
from evoconn_cli.tasks import Task
from evoconn_cli.training.checkpoints import CheckpointStore

_STEPS = "latest, best or the number of a generation that is saved"


class OpenedRun(NamedTuple):
    """A run at one of its checkpoints, or a bundle."""

    directory: RunDirectory
    config: RunConfig
    task: Task  # with its episode limit
    network: Network
    strategy: Strategy
    state: RunState  # on the first device of `workers`
    workers: WorkerMesh
    bundle: Bundle | None = None  # None for a checkpoint of a run

    @property
    def generation(self) -> int:
        """Generation of the checkpoint."""
        return int(self.state.generation)

    @property
    def edit(self) -> Edit | None:
        """What was changed by hand in a bundle; None if nothing was."""
        return self.bundle.edit if self.bundle is not None else None

    @property
    def probs(self) -> dict[str, jax.Array] | None:
        """Probabilities of the connections `[pre, post]` by layer; None if the strategy has none."""
        return self.strategy.probs(self.state.strategy) if self.strategy.probs is not None else None

    def output_path(self, folder: str | None, name: str) -> Path:
        """Returns the default path of a file, which is in the run or bundle, or beside it.

        Nothing is written into the zoo, which may be a part of the installed package: files of a network there go into
        the current directory.

        Args:
            folder: Folder in the run or bundle; None for a file beside it, whose name begins with that of the run.
            name: Name of the file.
        """
        path = self.directory.path
        if path.resolve().parent == zoo_dir().resolve():
            return Path(f"{path.name}-{name}")
        short = Path(self.directory.short_path())
        where = short if short.name else path  # the current directory has no name of its own
        return where.with_name(f"{where.name}-{name}") if folder is None else where / folder / name

    def candidates(self, policy: str, seed: int, episode: int = 0) -> Candidates:
        """Returns the connections or weights `[1, ...]` of a policy.

        Args:
            policy: `deterministic` or `sampled`.
            seed: Random seed of an evaluation, for a sampled policy.
            episode: Number of the episode in that evaluation; each has its own sample.
        """
        if policy == "deterministic":
            return self.strategy.center(self.state.strategy)
        return self.strategy.ask(candidates_key(seed), self.state.strategy, jnp.array([episode], jnp.int32))

    def policy_params(self, policy: str, seed: int, episode: int = 0) -> PolicyParams:
        """Returns the parameters of a policy; the arguments are those of `candidates`."""
        return PolicyParams(self.network.prepare(self.candidates(policy, seed, episode)), self.state.normalizer)


def kind_of(config: RunConfig) -> str:
    """Returns strategy, network and size in words, such as `ec, conn_snn, 256 neurons`."""
    return f"{config.algo.name}, {config.network.name}, {config.network.num_neurons} neurons"


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)


def open_run(
    path: Path,
    step: str | None = None,
    workers: WorkerMesh | None = None,
    *,
    note: Callable[[str], None] = _warn,
) -> OpenedRun:
    """Returns the run that `path` belongs to at one checkpoint, or a bundle. Nothing is written.

    If the latest checkpoint is damaged and no other is asked for, the one before it is used.

    Args:
        path: Run directory, its `checkpoints` directory, one step in that, such as `checkpoints/40`, or a bundle that
            `evoconn export-connectivity` wrote, edited or not.
        step: `latest` (default), the `best` network by its evaluations, or a generation; not for a path that names one.
        workers: Devices; by default those of this machine, whatever the run was trained on.
        note: Called with messages about changed plug-ins and damaged checkpoints; a Python warning by default.

    Raises:
        CheckpointError: The step does not exist, is damaged or belongs to another run.
        ConfigError: The step or the configuration is invalid.
        RunDirectoryError: The path is not part of a run.
        EvoconnError: The bundle cannot be read.
    """
    if is_exported(path):
        return _open_bundle(path, step, workers or start_jax(None), note)
    with _saved(path, workers, note) as saved:
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
        path: As for `open_run`.
        steps: Steps as for `open_run`, separated by commas, or `all`.
        workers: As for `open_run`.
        note: As for `open_run`.

    Raises:
        EvoconnError: As for `open_run`.
    """
    if is_exported(path):
        return [open_run(path, steps, workers, note=note)]
    with _saved(path, workers, note) as saved:
        opened: dict[int, OpenedRun] = {}
        for step in saved.expand(steps):
            try:
                run = saved.open(step, note)
            except DeletedCheckpointError:
                if steps != "all":
                    raise
                continue
            opened[run.generation] = run
    return [opened[generation] for generation in sorted(opened)]


class _Saved(NamedTuple):
    """A run and its checkpoints, open for reading."""

    path: Path  # as it was given
    named: int | None  # generation that the path names
    directory: RunDirectory
    config: RunConfig
    workers: WorkerMesh
    engine: Engine
    store: CheckpointStore

    def expand(self, steps: str | None) -> list[str | None]:
        """Returns the single steps that `steps` lists."""
        if steps is None:
            return [None]
        if steps == "all" and self.named is None:
            return [str(generation) for generation in self.store.generations()]
        asked = [step.strip() for step in steps.split(",")]
        if "" in asked:
            raise ConfigError(
                f"--step {steps}: a name is missing beside a comma. Expected {_STEPS}, several with commas between."
            )
        return list(asked)

    def open(self, step: str | None, note: Callable[[str], None]) -> OpenedRun:
        """Returns the run at one checkpoint."""
        if self.named is not None and step is not None and step != str(self.named):
            raise ConfigError(
                f"{self.path} is the checkpoint of generation {self.named} and --step says {step}: leave one out."
            )
        state = self._restore(str(self.named) if self.named is not None else step or "latest", note)
        task, network, strategy = self.engine.task, self.engine.network, self.engine.strategy
        return OpenedRun(self.directory, self.config, task, network, strategy, state, self.workers)

    def _restore(self, step: str, note: Callable[[str], None]) -> RunState:
        like, device = jax.eval_shape(self.engine.initial_state), self.workers.first_device
        while True:
            found = self.store.restore_latest(like, device, note, self.config) if step == "latest" else None
            if found is not None:
                return found.state
            generation = self._find(step)
            try:
                return self.store.restore(generation, like, device, self.config)[0]
            except DeletedCheckpointError:
                if step not in ("latest", "best"):  # by now, these name another checkpoint
                    raise

    def _find(self, step: str) -> int:
        """Returns the generation that a step names.

        Raises:
            CheckpointError: It is not saved.
            ConfigError: The step is not one of `_STEPS`.
        """
        saved, short = self.store.generations(), self.directory.short_path()
        names = ", ".join(str(generation) for generation in saved) or "none"
        if step == "latest":
            found = self.store.latest()
        elif step == "best":
            found = self.store.best()
        elif step.isdecimal():
            found = int(step) if int(step) in saved else None
        else:
            raise ConfigError(f"--step {step}: expected {_STEPS}. Saved in {short}: {names}.")
        if found is None:
            asked = f"generation {step}" if step.isdecimal() else f"{step} checkpoint"
            raise CheckpointError(f"the run {short} has no {asked}. Saved: {names}.")
        return found


@contextlib.contextmanager
def _saved(path: Path, workers: WorkerMesh | None, note: Callable[[str], None]) -> Iterator[_Saved]:
    run_path, named = locate(path)
    directory = RunDirectory.open(run_path)
    config = directory.read_config()
    _note_changes(directory.read_facts(), config, note)
    if directory.last_saved_generation() == 0:
        raise NothingYetError(
            f"the run {directory.short_path()} has no checkpoint yet; the first one comes at generation "
            f"{min(config.checkpoint.every, config.algo.generations)}. Resume it: {program()} resume "
            f"{shlex.quote(directory.short_path())}{plugin_options()}"
        )
    workers = workers or start_jax(None)
    engine = build_for_use(config, workers)
    with contextlib.closing(CheckpointStore(directory.checkpoints)) as store:
        yield _Saved(path, named, directory, config, workers, engine, store)


def _note_changes(facts: Mapping[str, Any], config: RunConfig, note: Callable[[str], None]) -> None:
    for change in changed_plugins(facts, config):
        note(f"{change}: what was trained may act otherwise than it did in training.")


def build_for_use(config: RunConfig, workers: WorkerMesh) -> Engine:
    """Returns an engine without training's GPU kernel, which may not run here and does not record neurons."""
    given = dataclasses.replace(config.engine, block=config.engine.block or 1, kernel="xla")
    return build_engine(dataclasses.replace(config, engine=given), workers)


def is_exported(path: Path) -> bool:
    """Returns whether `path` is a bundle.

    Raises:
        RunDirectoryError: The path cannot be read.
    """
    with readable(path):
        return is_bundle(path)


def _open_bundle(path: Path, step: str | None, workers: WorkerMesh, note: Callable[[str], None]) -> OpenedRun:
    """Returns the network of a bundle as a run that does not learn."""
    if step is not None:
        raise ConfigError(f"{path} is a bundle, which holds one network, and --step says {step}: leave it out.")
    bundle = read_bundle(path)
    config = bundle.connectome.config
    _note_changes(bundle.provenance, config, note)
    engine = build_for_use(config, workers)
    strategy, state = _freeze(engine.strategy, engine.initial_state(), bundle)
    state = jax.device_put(state, workers.first_device)
    return OpenedRun(RunDirectory(path), config, engine.task, engine.network, strategy, state, workers, bundle)


class FrozenState(NamedTuple):
    """State of a strategy that gives one network."""

    layers: dict[str, jax.Array]  # layer -> [1, W, post] uint32 packed connections
    probs: dict[str, jax.Array]  # layer -> [pre, post] that the connections come from; empty if there are none


def _freeze(strategy: Strategy, state: RunState, bundle: Bundle) -> tuple[Strategy, RunState]:
    """Returns the strategy and the state of a run, replaced by those of the network of a bundle.

    Args:
        strategy: Strategy of the bundle's configuration, whose state has the probabilities as its field `probs`.
        state: Any state of that run.
        bundle: Bundle that holds the network.
    """

    def ask(key: jax.Array, state: FrozenState, members: jax.Array) -> Any:
        check_sampling(bundle)
        return strategy.ask(key, evolved._replace(probs=state.probs), members)

    connectome, evolved = bundle.connectome, state.strategy  # the moments are zeros
    frozen = FrozenState(
        layers={name: bits.pack(jnp.asarray(layer), axis=0)[None] for name, layer in connectome.layers.items()},
        probs={name: jnp.asarray(p) for name, p in connectome.probs.items()},
    )
    normalizer = state.normalizer._replace(
        mean=jnp.asarray(connectome.obs_mean),
        std=jnp.asarray(connectome.obs_std),
        count=jnp.float32(connectome.obs_count),
    )
    return (
        dataclasses.replace(
            strategy, name="bundle", ask=ask, center=lambda state: state.layers, probs=lambda state: state.probs
        ),
        state._replace(strategy=frozen, normalizer=normalizer, generation=np.int32(connectome.generation)),
    )


def check_sampling(bundle: Bundle) -> None:
    """Checks that connections can be drawn from the probabilities of a bundle.

    Raises:
        EvoconnError: The bundle was edited.
    """
    if bundle.edit:
        raise EvoconnError(
            f"{bundle.path} was edited, and sampled connections come from the probabilities, which the edit did not "
            "change. Use the deterministic policy, `--policy deterministic`."
        )
