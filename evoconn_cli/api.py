"""The Python API: a saved run as a task, a policy and matrices, on plain arrays of a single episode."""

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
from evoconn_cli.config.schema import ConnSnnConfig, RunConfig
from evoconn_cli.engine.devices import in_our_arithmetic, our_arithmetic
from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.engine.policy import Policy, make_policy
from evoconn_cli.engine.state import RunState
from evoconn_cli.engine.strategies.connectivity import ConnectivityState
from evoconn_cli.errors import EvoconnError
from evoconn_cli.evaluation.evaluating import Programs, evaluate
from evoconn_cli.evaluation.neurobench import Figures
from evoconn_cli.evaluation.opened import FrozenState, OpenedRun, is_exported, open_run
from evoconn_cli.evaluation.statistics import Summary
from evoconn_cli.export.bundle.reading import Edit
from evoconn_cli.export.connectome import neuron_types
from evoconn_cli.networks.layers import layer_arrays
from evoconn_cli.runs.metrics import MetricsLine, read_metrics
from evoconn_cli.tasks import Task


class Connectivity(NamedTuple):
    """The boolean network `p > 0.5` and what it was drawn from; rows are pre-synaptic."""

    input: np.ndarray  # [2·O, N] bool, from [x, -x] of the normalised observation x
    recurrent: np.ndarray  # [N, N] bool
    output: np.ndarray  # [N, A] bool
    neuron_types: np.ndarray  # [N] int8, +1 excitatory, -1 inhibitory
    probs: dict[str, np.ndarray]  # the same three matrices as probabilities, float32


class Episodes(NamedTuple):
    """What episodes of an evaluation gave."""

    returns: np.ndarray  # [E] float32, not a finite number where an episode failed
    lengths: np.ndarray  # [E] int32 environment steps
    ended_early: np.ndarray  # [E] bool, whether an episode ended before the task's limit
    summary: Summary  # of the returns
    figures: Figures  # of one environment step


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """A run as it was at one checkpoint.

    Attributes:
        path: the run directory.
        generation: of the checkpoint.
        config: the whole configuration.
        task: what was learnt, for one episode: `task.reset(key) -> state`, `task.step(state, action) -> state`, both
            compiled; a state has `obs`, `reward`, `done` and `steps`.
        state: all arrays of the checkpoint.
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
        """The lines of metrics.jsonl, one a generation, those after the checkpoint too."""
        return read_metrics(self._opened.directory.metrics_file)

    @property
    def edit(self) -> Edit | None:
        """What was changed by hand in a bundle, None where nothing was."""
        return self._opened.bundle.edit if self._opened.bundle is not None else None

    def policy(self, key: jax.Array | None = None) -> Policy:
        """Returns the policy.

        Args:
            key: draws a network as training did, from the probabilities (`ec`) or around the centre (`es`); None gives
                the deterministic one, `p > 0.5` or the centre.
        """
        strategy, state = self._opened.strategy, self.state.strategy
        with our_arithmetic():
            if key is None:
                candidates = strategy.center(state)
            else:
                candidates = strategy.ask(key, state, jnp.zeros((1,), jnp.int32))
            return make_policy(self._opened.network, self.task, candidates, self.state.normalizer)

    def evaluate(
        self,
        episodes: int = 128,
        *,
        seed: int = 0,
        sampled: bool = False,
        perturb: Mapping[str, float] | None = None,
    ) -> Episodes:
        """Returns what episodes of the policy gave, the same as those of `evoconn evaluate`.

        Programs are compiled for each number of episodes and each physics, and kept with the run.

        Args:
            episodes: how many, E.
            seed: of all draws, 0 to 2^32 - 1.
            sampled: every episode has a network of its own, drawn as in training.
            perturb: strengths by name, as `--perturb` has them, such as `{"obs-noise": 0.1}`.

        Raises:
            EvoconnError: a perturbation that the task does not allow, or samples of an edited bundle.
            ValueError: no episodes, or a seed out of range.
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
            EvoconnError: the network has real weights.
        """
        network, state = self.config.network, self.state.strategy
        if not isinstance(network, ConnSnnConfig) or not isinstance(state, ConnectivityState | FrozenState):
            raise EvoconnError(
                f"the network {network.name!r} has real weights and no boolean connectivity; only conn_snn has. Its "
                "weights are in run.state.strategy.center, and run.policy() computes with them."
            )
        with our_arithmetic():
            center = layer_arrays(self._opened.network, self._opened.strategy.center(state))
        return Connectivity(
            **{name: np.asarray(array.values[0]) for name, array in center.items()},
            neuron_types=neuron_types(network),
            probs={name: np.asarray(probs) for name, probs in state.probs.items()},
        )


def load_run(path: str | Path, step: str | int | None = None) -> LoadedRun:
    """Returns a saved run, to use its policy in Python. Nothing is written, and JAX's settings stay as they are.

    Args:
        path: a run directory, its `checkpoints` directory, one step in there, or an exported bundle.
        step: `latest` (default), `best` by evaluation fitness, or a number; of the generations that are saved.

    Raises:
        EvoconnError: there is no such run or checkpoint, or it cannot be read; the message says what to do.
    """
    with our_arithmetic():
        workers = make_worker_mesh(jax.local_devices(), 1)
        opened = open_run(Path(path), None if step is None else str(step), workers)
    task = dataclasses.replace(
        opened.task,
        reset=in_our_arithmetic(jax.jit(opened.task.reset)),
        step=in_our_arithmetic(jax.jit(opened.task.step)),
    )
    return LoadedRun(opened.directory.path, opened.generation, opened.config, task, opened.state, opened)


def load_bundle(path: str | Path) -> LoadedRun:
    """Returns the network of a bundle, edited or not, to use it in Python. Nothing is written.

    What it has is the same as of a run, without metrics; `edit` says what was changed by hand.

    Args:
        path: a directory that `evoconn export-connectivity` wrote.

    Raises:
        EvoconnError: it is no bundle, or cannot be read; the message says what to do.
    """
    if not is_exported(Path(path)):
        raise EvoconnError(f"{path} is not a bundle. Name a directory that `evoconn export-connectivity` wrote.")
    return load_run(path)
