"""Finds the best network of a run while it is trained, and holds it until it is saved."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Mapping
from statistics import median_low
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from evoconn_cli.engine.state import RunState
from evoconn_cli.runs.ending import Best
from evoconn_cli.runs.metrics import MetricsLine
from evoconn_cli.training.checkpoints import HostFacts
from evoconn_cli.training.processes import Processes

SMOOTHED = 5
"""Number of last evaluations; their median is the smoothed evaluation."""

_copy = jax.jit(lambda state: jax.tree.map(jnp.copy, state))


class Snapshot(NamedTuple):
    """What a checkpoint holds."""

    state: RunState
    host: HostFacts
    eval_fitness: float  # of the line of metrics of its generation


class BestNetwork:
    """The best network so far: the one whose evaluation brought the smoothed evaluation to its highest value.

    A generation evaluates the network that it starts from. A new value can only raise the median of the last ones to
    itself or less, so the best network was evaluated as at least that, and so were the networks around it: neither a
    lucky evaluation nor a bad network among good ones counts.

    Args:
        best: Best network before the next generation.
        recent: Evaluation fitness of the generations before.

    Attributes:
        best: Best network so far.
        recent: Evaluation fitness of the last generations in which it was finite.
    """

    def __init__(self, best: Best | None = None, recent: Iterable[float] = ()) -> None:
        self.best = best
        self.recent = deque(recent, maxlen=SMOOTHED)
        self._start: Snapshot | None = None
        self._unsaved: Snapshot | None = None

    def begin(self, start: Snapshot) -> None:
        """Keeps a copy of the state that a generation starts from, because the generation consumes it."""
        self._start = start._replace(state=_copy(start.state))

    def evaluate(self, line: Mapping[str, Any]) -> None:
        """Takes in the metrics of a generation."""
        fitness, evaluated = line.get("eval_fitness"), int(line["generation"]) - 1
        if fitness is None or not math.isfinite(fitness):
            return
        self.recent.append(float(fitness))
        smoothed = median_low(self.recent)
        if evaluated > 0 and (self.best is None or smoothed > self.best.fitness):
            self.best = Best(evaluated, smoothed)
            self._unsaved = self._start

    def take_unsaved(self, saved: int) -> list[Snapshot]:
        """Returns the best network if it is newer than the checkpoint `saved`, once."""
        found, self._unsaved = self._unsaved, None
        return [found] if found is not None and int(found.state.generation) > saved else []


def share_best(processes: Processes, best: Best | None, history: Iterable[MetricsLine]) -> BestNetwork:
    """Returns the best network of a run that resumes, the same in all processes.

    Args:
        processes: Processes of the run; only the writer has the other arguments.
        best: Best network according to the checkpoint; None if an earlier version wrote it, or nothing was evaluated.
        history: Lines of metrics.jsonl.
    """
    found = BestNetwork()
    for line in history:
        found.evaluate(line)
    told = processes.broadcast(json.dumps([best or found.best, list(found.recent)]).encode())
    best, recent = json.loads(told)
    return BestNetwork(Best(*best) if best else None, recent)
