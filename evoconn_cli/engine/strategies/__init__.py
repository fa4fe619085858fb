"""Evolution strategies: draw members and move the centre by their fitness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax

from evoconn_cli.networks import Candidates

StrategyState: TypeAlias = Any
"""A pytree of arrays."""

Sums: TypeAlias = Any
"""A pytree of sums over members, which add up over blocks."""

Metrics: TypeAlias = dict[str, jax.Array]
"""Scalars to log, by the keys of metrics.jsonl."""


@dataclass(frozen=True)
class Strategy:
    """A strategy as pure functions; `B` members of a block, `M` members in all.

    Attributes:
        name: Name on the command line.
        init: `init(key) -> state` at generation 0.
        ask: `ask(key, state, members [B]) -> candidates`, each a function of its member's number only.
        center: `center(state) -> candidates` with B = 1, the deterministic network.
        weighted_sums: `weighted_sums(state, candidates, weights [B]) -> sums` of a block; weights are those of
            `shaping`, on the scale of doubled centred ranks, 0 for members that do not count.
        tell: `tell(state, sums, weights [M]) -> (state, metrics of the update)`.
        metrics: `metrics(state) -> metrics` of the state; none by default.
        keeps_candidates: Whether the candidates of the whole population are small enough to be kept for a
            generation; otherwise each block is drawn again when needed.
        probs: `probs(state) -> {layer: [pre, post]}` probabilities of boolean connections, or None if there are none.
        init_near: `init_near(state, {layer: [pre, post] bool}) -> state` at generation 0 near these connections, for
            `--init`; `state` is that of `init`. None if the strategy cannot start like that.
    """

    name: str
    init: Callable[[jax.Array], StrategyState]
    ask: Callable[[jax.Array, StrategyState, jax.Array], Candidates]
    center: Callable[[StrategyState], Candidates]
    weighted_sums: Callable[[StrategyState, Candidates, jax.Array], Sums]
    tell: Callable[[StrategyState, Sums, jax.Array], tuple[StrategyState, Metrics]]
    metrics: Callable[[StrategyState], Metrics] = lambda state: {}
    keeps_candidates: bool = False
    probs: Callable[[StrategyState], dict[str, jax.Array]] | None = None
    init_near: Callable[[StrategyState, dict[str, jax.Array]], StrategyState] | None = None
