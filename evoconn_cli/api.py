"""The Python API: a saved run as a task, a policy and matrices, on the arrays of a single episode."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from evoconn_cli.config.perturbations import parse_perturbations
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.devices import in_our_arithmetic, our_arithmetic
from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.engine.policy import Policy, make_policy, prepare_policy
from evoconn_cli.engine.state import RunState
from evoconn_cli.errors import EvoconnError
from evoconn_cli.evaluation.evaluating import Programs, evaluate
from evoconn_cli.evaluation.neurobench import Figures
from evoconn_cli.evaluation.opened import OpenedRun, is_exported, open_run
from evoconn_cli.evaluation.statistics import Summary
from evoconn_cli.export.bundle.reading import Edit
from evoconn_cli.networks.layers import layer_arrays
from evoconn_cli.runs.listing import named_run
from evoconn_cli.runs.metrics import MetricsLine, read_metrics
from evoconn_cli.tasks import Task


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
class LoadedRun:
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
            return make_policy(network, self.task, prepare_policy(network, candidates, self.state.normalizer))

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
            (one,) = evaluate(
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
                f"the network {network.name!r} has real weights and no boolean connectivity; only conn_snn has. Its "
                "weights are in run.state.strategy.center, and run.policy() computes with them."
            )
        with our_arithmetic():
            center = layer_arrays(network, opened.strategy.center(self.state.strategy))
        return Connectivity(
            **{name: np.asarray(values[0]) for name, values in center.items()},
            neuron_types=types,
            probs={name: np.asarray(probs) for name, probs in opened.probs.items()},
        )


def load_run(path: str | Path, step: str | int | None = None) -> LoadedRun:
    """Returns a saved run, to use its policy in Python. Nothing is written, and JAX's settings stay as they are.

    Args:
        path: Run directory, its `checkpoints` directory, one step in there, an exported bundle, or `latest`: the run
            under runs/ that was trained last.
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
    return LoadedRun(opened.directory.path, opened.generation, opened.config, task, opened.state, opened)


def load_bundle(path: str | Path) -> LoadedRun:
    """Returns the network of a bundle, edited or not, to use it in Python. Nothing is written.

    It offers the same as a run, without metrics; `edit` says what was changed by hand.

    Args:
        path: Directory that `evoconn export-connectivity` wrote.

    Raises:
        EvoconnError: The path is not a bundle or cannot be read; the message says what to do.
    """
    if not is_exported(Path(path)):
        raise EvoconnError(f"{path} is not a bundle. Name a directory that `evoconn export-connectivity` wrote.")
    return load_run(path)
