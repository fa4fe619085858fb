"""Run directories with checkpoints that no training made: in milliseconds, with parameters that all differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp

from evoconn_cli.config.loading import load_config
from evoconn_cli.engine.build import build_engine
from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.engine.state import RunState
from evoconn_cli.engine.strategies.connectivity import ConnectivityState
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.training.checkpoints import CheckpointStore, HostFacts

SMALL = ["task.name=probe_sign", "task.episode_length=8", "network.num_neurons=40", "engine.block=8"]


def save_run(path: Path, *overrides: str, eval_fitness: Mapping[int, float] | None = None) -> Path:
    """Returns `path`, where a run with a checkpoint and a line of metrics for each generation is now.

    Args:
        path: of the run directory.
        overrides: of the configuration, after those of `SMALL`.
        eval_fitness: by generation; the last three by default, of which the one before the last is the best.
    """
    eval_fitness = eval_fitness or {2: 1.0, 4: 5.0, 6: 3.0}
    config = load_config(None, [*SMALL, "algo.population=40", "algo.evaluation_copies=4", *overrides])
    directory = RunDirectory.create(path, config, {"status": "finished"})
    engine = build_engine(config, make_worker_mesh(jax.devices()[:1]))
    store = CheckpointStore(directory.checkpoints, config)
    for generation, fitness in eval_fitness.items():
        state = _varied(engine.initial_state(), jax.random.key(100 * config.seed + generation))
        store.save(
            state._replace(generation=jnp.int32(generation)), HostFacts(elapsed=1.0, env_steps_simulated=0), fitness
        )
    store.close()
    lines = [
        {"generation": generation, "eval_fitness": fitness, "env_steps": 1000 * generation, "elapsed": 2.0 * generation}
        for generation, fitness in eval_fitness.items()
    ]
    directory.metrics_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _varied(state: RunState, key: jax.Array) -> RunState:
    """Returns `state` with random probabilities or weights, and observations that need normalising."""
    strategy = state.strategy
    if isinstance(strategy, ConnectivityState):
        probs = {
            name: jax.random.uniform(jax.random.fold_in(key, index), p.shape)
            for index, (name, p) in enumerate(strategy.probs.items())
        }
        strategy = strategy._replace(probs=probs)
    else:
        strategy = strategy._replace(center=jax.tree.map(lambda x: x + 0.1, strategy.center))
    size = state.normalizer.mean.shape[0]
    normalizer = state.normalizer._replace(
        mean=jnp.linspace(-0.3, 0.4, size), std=jnp.linspace(0.5, 1.5, size), count=jnp.float32(10)
    )
    return state._replace(strategy=strategy, normalizer=normalizer)


def files_of(path: Path) -> dict[str, tuple[int, float]]:
    """Returns size and time of change of all files below `path`."""
    return {str(f.relative_to(path)): (f.stat().st_size, f.stat().st_mtime) for f in path.rglob("*") if f.is_file()}
