"""Evolution strategies: where members come from, and how their fitness moves the centre."""

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
        name: the name on the command line.
        init: `init() -> state` at generation 0.
        ask: `ask(key, state, members [B]) -> candidates`, each a function of its member's number alone.
        center: `center(state) -> candidates` with B = 1, the deterministic network.
        weighted_sums: `weighted_sums(candidates, ranks [B]) -> sums` of a block; ranks are doubled centred ranks,
            0 for those that do not take part. Integer sums may be added in any order.
        tell: `tell(state, sums, ranks [M]) -> (state, metrics of the update)`.
        metrics: `metrics(state) -> metrics` of the state.
    """

    name: str
    init: Callable[[], StrategyState]
    ask: Callable[[jax.Array, StrategyState, jax.Array], Candidates]
    center: Callable[[StrategyState], Candidates]
    weighted_sums: Callable[[Candidates, jax.Array], Sums]
    tell: Callable[[StrategyState, Sums, jax.Array], tuple[StrategyState, Metrics]]
    metrics: Callable[[StrategyState], Metrics]
