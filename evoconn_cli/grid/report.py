"""What the cells of a grid have reached, over their seeds.

Source: the interquartile mean and its bootstrap interval are those of `runs/evaluation/statistics.py`, over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from evoconn_cli.config.grid import Published
from evoconn_cli.errors import RunDirectoryError
from evoconn_cli.grid.cells import Cell
from evoconn_cli.grid.states import State, read_status
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.evaluation.statistics import Interval, bootstrap_iqm, interquartile_mean
from evoconn_cli.runs.metrics import read_metrics
from evoconn_cli.runs.progress.history import best_evaluation

FINAL_GENERATIONS = 10
"""The final fitness of a run is its mean evaluation fitness over so many last generations."""

_BOOTSTRAP_SEED = 0


class Result(NamedTuple):
    """What one cell has reached so far."""

    cell: Cell
    state: State
    failures: int
    generation: int
    final: float | None  # None where no generation has an evaluation fitness
    best: float | None
    env_steps: int
    hours: float


class GroupResult(NamedTuple):
    """What the seeds of a cell have reached so far."""

    results: list[Result]
    iqm: float | None
    interval: Interval | None  # None for fewer than two seeds
    published: float | None

    @property
    def cell(self) -> Cell:
        """The first cell of the group."""
        return self.results[0].cell

    @property
    def best(self) -> float | None:
        """The highest evaluation fitness of any seed in any generation."""
        return max((result.best for result in self.results if result.best is not None), default=None)

    @property
    def env_steps(self) -> float:
        """Environment steps of a run, the mean over seeds that have begun."""
        return _mean([result.env_steps for result in self.results])

    @property
    def hours(self) -> float:
        """Training time of a run [h], the mean over seeds that have begun."""
        return _mean([result.hours for result in self.results])

    @property
    def num_finished(self) -> int:
        """How many seeds are finished."""
        return sum(result.state is State.FINISHED for result in self.results)


def read_results(cells: Sequence[Cell], published: Published | None) -> list[GroupResult]:
    """Returns what the cells have reached, one entry for every set, task and setting."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    return [_group(group, published) for group in groups.values()]


def _group(cells: Sequence[Cell], published: Published | None) -> GroupResult:
    import numpy as np

    results = [_result(cell) for cell in cells]
    finals = np.asarray([result.final for result in results if result.final is not None])
    known = len(finals) > 0
    return GroupResult(
        results,
        iqm=float(interquartile_mean(finals)) if known else None,
        interval=bootstrap_iqm([finals], _BOOTSTRAP_SEED) if known else None,
        published=published.find(cells[0].set_name, cells[0].task) if published else None,
    )


def _result(cell: Cell) -> Result:
    try:
        lines = read_metrics(RunDirectory(cell.path).metrics_file)
    except RunDirectoryError:  # one that cannot be read costs no other
        lines = []
    status = read_status(cell)
    last = lines[-1] if lines else {}
    finals = [x for line in lines[-FINAL_GENERATIONS:] if (x := line.get("eval_fitness")) is not None]
    best = best_evaluation(lines)
    return Result(
        cell,
        status.state,
        status.failures,
        generation=int(last.get("generation") or 0),
        final=fmean(finals) if finals else None,
        best=best[0] if best else None,
        env_steps=int(last.get("env_steps") or 0),
        hours=(last.get("elapsed") or 0.0) / 3600,
    )


def _mean(values: Sequence[float]) -> float:
    """Returns the mean of the values that are not 0."""
    return fmean([value for value in values if value] or [0.0])
