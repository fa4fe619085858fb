"""Collects what is exported of a saved run: connectomes, their provenance, and a recorded episode."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from evoconn_cli.config.formats import ExportOptions
from evoconn_cli.config.plugin_records import to_facts
from evoconn_cli.engine.devices import start_jax
from evoconn_cli.evaluation.opened import OpenedRun, open_checkpoints
from evoconn_cli.export.connectome import Connectome, ExportSource
from evoconn_cli.export.episode import Episode, record_episode
from evoconn_cli.networks.layers import biases, layer_arrays
from evoconn_cli.runs.provenance import versions

_RUN_FACTS = ("command", "started", "versions", "devices", "git_commit", "git_dirty", "wandb_id", "init")
"""Entries of run.json that become part of the provenance."""


def open_steps(path: Path, step: str | None, note: Callable[[str], None] = warnings.warn) -> list[OpenedRun]:
    """Returns what `open_checkpoints` does, for the same arguments, with JAX on the CPU."""
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
        opened: Run at one or several checkpoints.
        policy: `deterministic` or `sampled`; sampled connections are those of episode 0 of an evaluation with `seed`.
        seed: Random seed of sampled connections and of the initial states of the recorded episode.
        max_steps: Number of steps after which the recorded episode is cut.
        options: Options of single formats.
        progress: Called with the progress of the statistics in words.
    """

    def record() -> Episode:
        last = opened[-1]
        return record_episode(
            last.task,
            last.network,
            last.policy_params(policy, seed),
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
    network, candidates, normalizer = opened.network, opened.candidates(policy, seed), opened.state.normalizer
    return Connectome(
        config=opened.config,
        generation=opened.generation,
        policy=_drawn(opened, policy),
        layers={name: np.asarray(values[0]) for name, values in layer_arrays(network, candidates).items()},
        biases={name: np.asarray(values[0]) for name, values in biases(network, candidates).items()},
        probs={name: np.asarray(values) for name, values in (opened.probs or {}).items()},
        neurons=network.neurons,
        obs_mean=np.asarray(normalizer.mean),
        obs_std=np.asarray(normalizer.std),
        action_size=opened.task.action_size,
        equations=network.equations,
        obs_count=float(normalizer.count),
    )


def _drawn(opened: OpenedRun, policy: str) -> str:
    """Returns how connections were drawn; a bundle keeps the policy that it was exported with."""
    return opened.bundle.connectome.policy if policy == "deterministic" and opened.bundle else policy


def _provenance(opened: OpenedRun, policy: str, seed: int) -> dict[str, Any]:
    """Returns the provenance of a network, as JSON values."""
    if opened.bundle is None:
        run, facts = opened.directory.path.name, opened.directory.read_facts()
        training = {name: facts[name] for name in _RUN_FACTS if name in facts}
    else:
        run, training = opened.bundle.provenance["run"], opened.bundle.provenance["training"]
    return {
        "run": run,
        "generation": opened.generation,
        "policy": _drawn(opened, policy),
        "edit": opened.edit._asdict() if opened.edit else None,
        "seed": seed,
        "training": training,
        "exported": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": versions(),
        "config": dataclasses.asdict(opened.config),
        **to_facts(opened.config),
    }
