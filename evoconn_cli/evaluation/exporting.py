"""From saved runs to what is exported: connectomes, where they come from, and a recorded episode."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from evoconn_cli.config.formats import ExportOptions
from evoconn_cli.engine.devices import start_jax
from evoconn_cli.engine.strategies.connectivity import ConnectivityState
from evoconn_cli.evaluation.opened import FrozenState, OpenedRun, candidates_of, open_checkpoints
from evoconn_cli.export.connectome import Connectome, make_connectome
from evoconn_cli.export.episode import AnyEpisode, record_episode
from evoconn_cli.export.source import ExportSource
from evoconn_cli.runs.provenance import versions

_RUN_FACTS = ("command", "started", "versions", "devices", "git_commit", "git_dirty", "wandb_id")
"""What run.json says that belongs to where a network comes from."""


def open_steps(path: Path, step: str | None, note: Callable[[str], None] = warnings.warn) -> list[OpenedRun]:
    """Returns a run at all checkpoints that are asked for, each once, by generation. JAX computes on the CPU.

    Args:
        path: as for `open_checkpoints`.
        step: as for `open_checkpoints`.
        note: is told about each damaged checkpoint that is passed over.

    Raises:
        EvoconnError: as `open_checkpoints`.
    """
    jax.config.update("jax_platforms", "cpu")
    return open_checkpoints(path, step, start_jax(1), note=note)


def make_source(
    opened: Sequence[OpenedRun],
    *,
    policy: str,
    seed: int,
    max_steps: int | None,
    options: ExportOptions,
    progress: Callable[[str], None] = lambda text: None,
) -> ExportSource:
    """Returns what is exported.

    Args:
        opened: a run at one or several checkpoints.
        policy: `deterministic` or `sampled`; sampled connections are those of episode 0 of an evaluation with `seed`.
        seed: of sampled connections and of the initial states of the recorded episode.
        max_steps: the recorded episode is cut after so many steps.
        options: of single formats.
        progress: is told in words how far the statistics are.
    """

    def record() -> AnyEpisode:
        last = opened[-1]
        return record_episode(
            last.task,
            last.network,
            candidates_of(last, policy, seed),
            last.state.normalizer,
            seed=seed,
            max_steps=max_steps,
            warmup_steps=last.config.rollout.warmup_steps,
        )

    return ExportSource(
        connectomes=[_connectome(one, policy, seed) for one in opened],
        record=record,
        provenance=_provenance(opened[-1], policy, seed),
        options=options,
        progress=progress,
    )


def _connectome(opened: OpenedRun, policy: str, seed: int) -> Connectome:
    state = opened.state.strategy
    return make_connectome(
        opened.config,
        opened.generation,
        opened.network,
        candidates_of(opened, policy, seed),
        opened.state.normalizer,
        policy=_drawn(opened, policy),
        probs=state.probs if isinstance(state, ConnectivityState | FrozenState) else None,
        action_size=opened.task.action_size,
    )


def _drawn(opened: OpenedRun, policy: str) -> str:
    """Returns how connections were drawn; those of a bundle are deterministic only where they were when exported."""
    return opened.bundle.connectome.policy if policy == "deterministic" and opened.bundle else policy


def _provenance(opened: OpenedRun, policy: str, seed: int) -> dict[str, Any]:
    """Returns where a network comes from, as JSON values."""
    if opened.bundle is None:
        run, facts = opened.directory.path.name, opened.directory.read_facts()
        training = {name: facts[name] for name in _RUN_FACTS if name in facts}
    else:
        run, training = opened.bundle.provenance["run"], opened.bundle.provenance["training"]
    return {
        "run": run,
        "generation": opened.generation,
        "policy": _drawn(opened, policy),
        "edit": opened.bundle.edit._asdict() if opened.bundle and opened.bundle.edit else None,
        "seed": seed,
        "training": training,
        "exported": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": versions(),
        "config": dataclasses.asdict(opened.config),
    }
