"""The network that a saved run plays with: its centre, or a sample as an evaluation draws it."""

from __future__ import annotations

import jax.numpy as jnp

from evoconn_cli.engine.evaluation import candidates_key
from evoconn_cli.networks import Candidates
from evoconn_cli.runs.opened import OpenedRun


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
