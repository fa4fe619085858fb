"""The Python API: training, and a saved run as a task, a policy and matrices, on the arrays of a single episode."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from omegaconf import OmegaConf

from evoconn_cli.config.loading import load_config, resolve_config
from evoconn_cli.config.perturbations import parse_perturbations
from evoconn_cli.config.reading import read_base, read_overrides
from evoconn_cli.config.schema import RunConfig, is_text
from evoconn_cli.engine.devices import in_our_arithmetic, our_arithmetic
from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.engine.policy import Policy, PolicyParams, make_policy
from evoconn_cli.engine.state import RunState
from evoconn_cli.errors import EvoconnError
from evoconn_cli.evaluation.evaluating import Programs
from evoconn_cli.evaluation.evaluating import evaluate as evaluate_runs
from evoconn_cli.evaluation.neurobench import Figures
from evoconn_cli.evaluation.opened import OpenedRun, is_exported, open_run
from evoconn_cli.evaluation.starting import read_start
from evoconn_cli.evaluation.statistics import Summary
from evoconn_cli.export.bundle.reading import Edit
from evoconn_cli.networks.layers import layer_arrays
from evoconn_cli.progress.display import ProgressKind, choose_progress
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.listing import RunStatus, named_run, summarize
from evoconn_cli.runs.metrics import MetricsLine, read_metrics
from evoconn_cli.runs.source import config_from, find_source
from evoconn_cli.tasks import Task
from evoconn_cli.training.checkpoint_facts import nothing_left
from evoconn_cli.training.hosted import Callback, train_hosted
from evoconn_cli.training.opening import create_run, reopen_run


class Connectivity(NamedTuple):
    """The boolean network `p > 0.5` and its probabilities; rows are pre-synaptic."""

    input: np.ndarray  # [2·O, N] bool, from [x, -x] of the normalised observation x
    recurrent: np.ndarray  # [N, N] bool
    output: np.ndarray  # [N, A] bool
    neuron_types: np.ndarray  # [N] int8, +1 excitatory, -1 inhibitory
    probs: dict[str, np.ndarray]  # the same three matrices as probabilities, float32


class Episodes(NamedTuple):
    """Results of the `E` episodes of an evaluation."""

    returns: np.ndarray  # [E] float32, not finite for episodes that failed
    lengths: np.ndarray  # [E] int32 environment steps
    ended_early: np.ndarray  # [E] bool, whether the episode ended before the task's limit
    summary: Summary  # of the returns
    figures: Figures  # per environment step


@dataclasses.dataclass(frozen=True)
class Run:
    """A run at one checkpoint.

    Attributes:
        path: Run directory.
        generation: Generation of the checkpoint.
        config: Configuration of the run.
        task: Task for one episode: `task.reset(key) -> state` and `task.step(state, action) -> state`, both compiled;
            a state has `obs`, `reward`, `done` and `steps`.
        state: All arrays of the checkpoint.
    """

    path: Path
    generation: int
    config: RunConfig = dataclasses.field(repr=False)
    task: Task = dataclasses.field(repr=False)
    state: RunState = dataclasses.field(repr=False)
    _opened: OpenedRun = dataclasses.field(repr=False)
    _programs: Programs = dataclasses.field(repr=False, compare=False, default_factory=dict)

    @functools.cached_property
    def metrics(self) -> list[MetricsLine]:
        """The lines of metrics.jsonl, one per generation, including those after the checkpoint."""
        return read_metrics(self._opened.directory.metrics_file)

    @property
    def status(self) -> RunStatus | None:
        """How the training ended, as `evoconn runs` shows it: such as `finished`, or `saved`, which can be resumed.

        None for a bundle.
        """
        return summarize(self.path).status if self._opened.bundle is None else None

    @property
    def edit(self) -> Edit | None:
        """What was changed by hand in a bundle; None if nothing was."""
        return self._opened.edit

    def policy(self, key: jax.Array | None = None) -> Policy:
        """Returns the policy.

        Args:
            key: Key that draws a network as training does, from the probabilities (`ec`) or around the centre (`es`);
                None gives the deterministic one, `p > 0.5` or the centre.
        """
        network, strategy, state = self._opened.network, self._opened.strategy, self.state.strategy
        with our_arithmetic():
            if key is None:
                candidates = strategy.center(state)
            else:
                candidates = strategy.ask(key, state, jnp.zeros((1,), jnp.int32))
            params = PolicyParams(network.prepare(candidates), self.state.normalizer)
            return make_policy(network, self.task, params)

    def evaluate(
        self,
        episodes: int = 128,
        *,
        seed: int = 0,
        sampled: bool = False,
        perturb: Mapping[str, float] | None = None,
    ) -> Episodes:
        """Returns the results of episodes of the policy, the same as those of `evoconn evaluate`.

        Programs are compiled per number of episodes and physics, and kept with the run.

        Args:
            episodes: Number of episodes, E.
            seed: Random seed, 0 to 2^32 - 1.
            sampled: Whether every episode has its own network, drawn as in training.
            perturb: Strengths by name, as in `--perturb`, such as `{"obs-noise": 0.1}`.

        Raises:
            EvoconnError: The task does not allow a perturbation, or samples of an edited bundle are asked for.
            ValueError: There are no episodes, or the seed is out of range.
        """
        if episodes < 1 or not 0 <= seed < 2**32:
            raise ValueError(f"episodes={episodes}, seed={seed}: at least one episode, and a seed from 0 to 2^32 - 1")
        (setting,) = parse_perturbations([f"{name}={float(value)}" for name, value in (perturb or {}).items()])
        with our_arithmetic():
            (one,) = evaluate_runs(
                [self._opened], [setting], num_episodes=episodes, seed=seed, sampled=sampled, programs=self._programs
            )
        results = one.results
        arrays = (np.asarray(x) for x in (results.returns, results.lengths, results.ended_early))
        return Episodes(*arrays, summary=one.returns, figures=one.figures)

    def connectivity(self) -> Connectivity:
        """Returns the boolean matrices, the types of the neurons and the probabilities.

        Raises:
            EvoconnError: The network has real weights.
        """
        network, opened = self._opened.network, self._opened
        types = network.neurons.types if network.neurons else None
        if types is None or opened.probs is None:
            raise EvoconnError(
                f"the network {network.name!r} has no boolean connectivity between typed neurons with probabilities. "
                "What it has evolved is in run.state.strategy, and run.policy() computes with that."
            )
        with our_arithmetic():
            center = layer_arrays(network, opened.strategy.center(self.state.strategy))
        return Connectivity(
            **{name: np.asarray(values[0]) for name, values in center.items()},
            neuron_types=types,
            probs={name: np.asarray(probs) for name, probs in opened.probs.items()},
        )


def load_run(path: str | Path, step: str | int | None = None) -> Run:
    """Returns a saved run, to use its policy in Python. Nothing is written, and JAX's settings stay as they are.

    Args:
        path: Run directory, its `checkpoints` directory, one step in there, an exported bundle, `zoo:NAME` for a
            trained network that evoconn comes with, or `latest` for the run under runs/ that was trained last.
        step: `latest` (default), the `best` network by its evaluations, or the number of a saved generation.

    Raises:
        EvoconnError: The run or checkpoint does not exist or cannot be read; the message says what to do.
    """
    with our_arithmetic():
        workers = make_worker_mesh(jax.local_devices(), 1)
        opened = open_run(named_run(Path(path)), None if step is None else str(step), workers)
    task = dataclasses.replace(
        opened.task,
        reset=in_our_arithmetic(jax.jit(opened.task.reset)),
        step=in_our_arithmetic(jax.jit(opened.task.step)),
    )
    return Run(opened.directory.path, opened.generation, opened.config, task, opened.state, opened)


def load_bundle(path: str | Path) -> Run:
    """Returns the network of a bundle, edited or not, to use it in Python. Nothing is written.

    It offers the same as a run, without metrics; `edit` says what was changed by hand.

    Args:
        path: Directory that `evoconn export-connectivity` wrote, or `zoo:NAME`.

    Raises:
        EvoconnError: The path is not a bundle or cannot be read; the message says what to do.
    """
    if not is_exported(named_run(Path(path))):
        raise EvoconnError(f"{path} is not a bundle. Name a directory that `evoconn export-connectivity` wrote.")
    return load_run(path)


def evaluate(
    run: Run | str | Path,
    episodes: int = 128,
    *,
    step: str | int | None = None,
    seed: int = 0,
    sampled: bool = False,
    perturb: Mapping[str, float] | None = None,
) -> Episodes:
    """Returns the results of episodes of a run or bundle, the same as those of `evoconn evaluate`.

    Args:
        run: Run, or a path as for `load_run`.
        episodes: As for `Run.evaluate`.
        step: Checkpoint of a path, as for `load_run`; a `Run` is at one already.
        seed: As for `Run.evaluate`.
        sampled: As for `Run.evaluate`.
        perturb: As for `Run.evaluate`.

    Raises:
        EvoconnError: As for `load_run` and `Run.evaluate`.
        ValueError: As for `Run.evaluate`, or a step for a `Run`.
    """
    if not isinstance(run, Run):
        run = load_run(run, step)
    elif step is not None:
        raise ValueError(f"step={step!r}: the run is at generation {run.generation}. Open another with load_run.")
    return run.evaluate(episodes, seed=seed, sampled=sampled, perturb=perturb)


def train(
    config: str | Path | RunConfig | None = None,
    *,
    task: str | Mapping[str, Any] | None = None,
    algo: str | Mapping[str, Any] | None = None,
    network: str | Mapping[str, Any] | None = None,
    run_dir: str | Path | None = None,
    init: str | Path | None = None,
    callbacks: Iterable[Callback] = (),
    progress: ProgressKind = "auto",
    **overrides: Any,
) -> Run:
    """Returns a new run at its last generation, after training it as `evoconn train` does.

    Each callback is called after each generation as `callback(metrics, state)`. The next generation consumes the arrays
    of `state`: copy what is kept, such as with `jax.device_get`. If one returns True, the run is saved and can be
    resumed. If one raises an exception, the run is saved before that goes on.

    In the main thread, a signal lets the generation finish and saves the run before it takes its effect: Ctrl-C raises
    KeyboardInterrupt, a second one at once and without saving.

    Args:
        config: Name of a preset, path of a YAML file, or a configuration such as `run.config`; None for the defaults.
        task: Name of the task, or keys of the section, such as `{"name": "hopper", "episode_length": 500}`.
        algo: Name of the strategy, or keys of the section.
        network: Name of the network, or keys of the section.
        run_dir: New or empty directory of the run; by default a new one under runs/.
        init: Run, checkpoint, bundle or `zoo:NAME` whose connectome and normaliser the run starts from; its task and
            network replace those of `config`.
        callbacks: Functions to call after each generation.
        progress: `auto` shows the training in place in a terminal or notebook, and as lines elsewhere; `plain` prints
            lines, None nothing.
        overrides: Further keys, as sections or with dots: `seed=3`, `engine={"devices": 2}`,
            `**{"algo.population": 64}`.

    Raises:
        EvoconnError: As for the command; the message says what to do.
        KeyboardInterrupt: Ctrl-C was pressed.
        ValueError: The progress is unknown.
    """
    sections = {"task": task, "algo": algo, "network": network}
    named = {key: {"name": value} if isinstance(value, str) else value for key, value in sections.items()}
    given = {**{key: value for key, value in named.items() if value is not None}, **overrides}
    named_base = None if config is None or isinstance(config, RunConfig) else str(config)
    whole = OmegaConf.create(dataclasses.asdict(config)) if isinstance(config, RunConfig) else None
    read = None
    if init is not None:
        source = find_source(init)
        resolved = config_from(source, read_base(named_base) if whole is None else whole, given)
        read = functools.partial(read_start, source)
    elif whole is not None:
        resolved = resolve_config(whole, read_overrides(given, is_text))
    else:
        resolved = load_config(named_base, given)
    path = None if run_dir is None else Path(run_dir)
    done = train_hosted(lambda: create_run(resolved, path, read_start=read), callbacks, choose_progress(progress))
    return load_run(done.path)


def resume(
    run_dir: str | Path,
    *,
    generations: int | None = None,
    callbacks: Iterable[Callback] = (),
    progress: ProgressKind = "auto",
    **overrides: Any,
) -> Run:
    """Returns a run at its last generation, after training it further as `evoconn resume` does.

    A finished run is returned as it is, unless more generations are asked for.

    Args:
        run_dir: Directory of the run, or `latest` as for `load_run`.
        generations: Generation to train up to; as configured by default.
        callbacks: As for `train`.
        progress: As for `train`.
        overrides: Keys of checkpoint and tracking, `engine.devices` or `engine.kernel`, written as for `train`.

    Raises:
        EvoconnError: As for the command; the message says what to do.
        KeyboardInterrupt: Ctrl-C was pressed.
        ValueError: The progress is unknown.
    """
    path = named_run(Path(run_dir))
    given = ({} if generations is None else {"algo.generations": generations}) | overrides
    if nothing_left(RunDirectory.open(path), given):
        return load_run(path)
    train_hosted(lambda: reopen_run(path, given), callbacks, choose_progress(progress))
    return load_run(path)
