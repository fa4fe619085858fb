"""The trials of a search as cells: which are trained next, what is compared meanwhile, and which are pruned."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from evoconn_cli.config.fields import walk
from evoconn_cli.config.grid import GridFile
from evoconn_cli.config.schema import most_steps
from evoconn_cli.config.search import Search
from evoconn_cli.errors import ConfigError, EvoconnError, RunDirectoryError
from evoconn_cli.grid import Note
from evoconn_cli.grid.attempts import read_attempts, record_pruned
from evoconn_cli.grid.cells import Cell, Point, cell_id, cells_at, load_point, points, shapes_a_run
from evoconn_cli.grid.states import State, read_lines, read_status
from evoconn_cli.progress.formatting import count, fitness
from evoconn_cli.progress.history import final_fitness
from evoconn_cli.runs.metrics import MetricsLine

if TYPE_CHECKING:
    from evoconn_cli.search.study import Trial

_REPORTS = 10
"""Comparisons of the pruner in a run whose episodes all reach their limit, by default."""

_MOST_REPORTS = 1000

_HOPELESS = 3
"""Failed trials after which a search without any result asks for no more."""


class PointSearch:
    """The search at one set, task and combination of the axes.

    A trial is the cells of all seeds with the same values; its fitness is the mean over seeds. Trials with the same
    values share their cells.

    Args:
        file: Grid file.
        keys: Its section `search`.
        directory: Directory of the grid.
        point: Set, task and combination of the axes.

    Attributes:
        file: Grid file.
        directory: Directory of the grid.
        point: Set, task and combination of the axes.
        every: Environment steps between two comparisons of the pruner.
        trials: Trials by number, as last read.
        cells: Cells of each trial.
        num_ending: Number of pruned trials that still run.

    Raises:
        EvoconnError: Optuna is not installed, or the study cannot be read.
    """

    def __init__(self, file: GridFile, keys: Search, directory: Path, point: Point) -> None:
        try:
            from evoconn_cli.search.study import JOURNAL, Study
        except ModuleNotFoundError as error:
            missing = f"{error.name} is not installed here"
            raise EvoconnError(f"a search needs Optuna, and {missing}: pip install 'evoconn[search]'.") from None
        config = load_point(file, point)
        most = most_steps(config) * config.algo.generations
        most = min(most, config.algo.max_env_steps or most)
        self.file, self.directory, self.point = file, directory, point
        default = max(1, most // _REPORTS)
        self.every = keys.report_every or default
        if not 1 <= most / self.every <= _MOST_REPORTS:
            raise ConfigError(
                f"search.report_every={self.every}: a run of up to {most} steps would be compared "
                f"{most // self.every} times, which has to be 1 to {_MOST_REPORTS}. By default it is {default}."
            )
        self.trials: list[Trial] = []
        self.cells: list[list[Cell]] = []
        self.num_ending = 0
        self._num_trials = keys.num_trials
        self._possible = {*keys.space, *(key for key, _, _ in walk(config) if shapes_a_run(key))}
        # Whatever makes fitness incomparable with that of earlier trials begins another study.
        seeds = "+".join(map(str, file.seeds))
        name = f"{point.set_name}-{point.task}-{cell_id(config, keys.space)}-seeds{seeds}"
        self._study = Study(directory / JOURNAL, name, keys, every=self.every, most_steps=most)
        self._is_compared = keys.pruner != "none"
        self._settled: set[int] = set()

    @property
    def best(self) -> Trial | None:
        """The complete trial with the highest fitness, the first of equal ones."""
        complete = [trial for trial in self.trials if trial.is_complete and trial.fitness is not None]
        return max(complete, key=lambda trial: trial.fitness or 0.0, default=None)

    def importance(self) -> dict[str, float]:
        """Returns the share of each key in being among the best trials, largest first; empty if unknown."""
        return self._study.importance()

    def refresh(self) -> None:
        """Reads the trials from the study."""
        self.trials = self._study.trials()
        for trial in self.trials[len(self.cells) :]:
            values = tuple(trial.values.items())
            cells: list[Cell] = []
            with suppress(ConfigError):  # values that do not go together
                if trial.values.keys() <= self._possible:  # a journal may be a stranger's, and set tracking.entity
                    cells = cells_at(self.file, self.point, self.directory, values=values, trial=trial.number)
            self.cells.append(cells)

    def ask(self, note: Note) -> None:
        """Adds a trial to the study, unless another launcher has added the last one."""
        with self._study.locked():
            self.refresh()
            if len(self.trials) >= self._num_trials:
                return
            trial = self._study.ask()
            self.refresh()
        if not self.cells[trial.number]:
            values = " ".join(f"{key}={value}" for key, value in trial.values.items())
            note(f"trial {trial.number} is left out: its values do not go together: {values}")

    def follow(self) -> list[Cell]:
        """Tells the study what its trials have reached, and returns the running cells of pruned trials."""
        self.refresh()
        to_end, self.num_ending = [], 0
        for trial in self.trials:
            if trial.number in self._settled:
                continue
            cells = self.cells[trial.number]
            if trial.is_open:
                self._follow(trial, cells)
            trial = self.trials[trial.number]
            running = _prune(cells) if trial.is_pruned else []
            to_end += running
            self.num_ending += bool(running)
            if not trial.is_open and not running:
                self._settled.add(trial.number)
        return to_end

    def _follow(self, trial: Trial, cells: Sequence[Cell]) -> None:
        """Reports new evaluations of an open trial, and tells its fitness if all of its cells have ended.

        A trial without cells, whose values do not go together, is told as failed.
        """
        states = [read_status(cell).state for cell in cells]  # first, so that metrics of finished cells are whole
        is_over = all(state.is_final for state in states)
        if not is_over and not self._is_compared:
            return
        histories = [read_lines(cell) for cell in cells]
        reports = self._reports(histories) if self._is_compared and cells else {}
        if not is_over and not reports.keys() - trial.reports.keys():
            return
        with self._study.locked():
            self.refresh()
            trial = self.trials[trial.number]  # another launcher may have told it meanwhile
            is_pruned = not trial.is_open
            for steps, value in reports.items():
                if not is_pruned and steps not in trial.reports:
                    is_pruned = self._study.report(trial.number, steps, value)
            if not is_pruned and all(state is State.FINISHED for state in states):
                self._study.tell(trial.number, _mean([final_fitness(lines) for lines in histories]))
            elif not is_pruned and is_over:
                self._study.prune(trial.number)  # it shares the cells of a pruned trial
            self.refresh()

    def _reports(self, histories: Sequence[Sequence[MetricsLine]]) -> dict[int, float]:
        """Returns the mean fitness over seeds at the steps that all of them have reached."""
        reached = min(int(lines[-1].get("env_steps") or 0) if lines else 0 for lines in histories)
        compared = range(self.every, reached + 1, self.every)
        means = {steps: _mean([_fitness_at(lines, steps) for lines in histories]) for steps in compared}
        return {steps: mean for steps, mean in means.items() if mean is not None}


class GridSearch:
    """The searches of a grid.

    Args:
        file: Grid file.
        keys: Its section `search`.
        directory: Directory of the grid.

    Attributes:
        file: Grid file.
        keys: Its section `search`.
        searches: One search per set, task and combination of the axes.
        cells: Cells of all trials so far.

    Raises:
        EvoconnError: Optuna is not installed, or the study cannot be read.
    """

    def __init__(self, file: GridFile, keys: Search, directory: Path) -> None:
        self.file, self.keys = file, keys
        self.searches = [PointSearch(file, keys, directory, point) for point in points(file)]
        self.cells: list[Cell] = []
        self._left_out: set[Path] = set()
        self._num_open = 0
        self._num_failed = 0
        self.refresh()

    @property
    def summary(self) -> str:
        """How far the search is, in a few words."""
        in_all = self.keys.num_trials * len(self.searches)
        told = sum(not trial.is_open for search in self.searches for trial in search.trials)
        best = self.searches[0].best if len(self.searches) == 1 else None
        of_best = f", best {fitness(best.fitness)} (trial {best.number})" if best else ""
        return f"{count(told)} of {count(in_all)} trials{of_best}"

    @property
    def is_stuck(self) -> bool:
        """Whether the first trials have all failed, so that further ones would, too."""
        has_result = any(trial.fitness is not None for search in self.searches for trial in search.trials)
        return self._num_failed >= _HOPELESS and not has_result

    @property
    def wants_more(self) -> bool:
        """Whether another trial may begin now."""
        return self._num_open < self.keys.parallel and not self.is_stuck and self._next() is not None

    @property
    def is_done(self) -> bool:
        """Whether the fitness of all trials is known."""
        return self._next() is None and not any(trial.is_open for search in self.searches for trial in search.trials)

    def refresh(self) -> list[Cell]:
        """Reads the trials, and returns the cells of new ones."""
        for search in self.searches:
            search.refresh()
        known = {cell.path: cell for cell in self.cells}
        for cell in (cell for search in self.searches for of_trial in search.cells for cell in of_trial):
            known.setdefault(cell.path, cell)
        new = list(known.values())[len(self.cells) :]
        self.cells += new
        self._count()
        return new

    def ask(self, note: Note) -> list[Cell]:
        """Begins another trial, and returns its cells that no other trial has."""
        search = self._next()
        if search is not None:
            search.ask(note)
        return self.refresh()

    def follow(self) -> tuple[list[Cell], list[Cell]]:
        """Tells the studies what their trials have reached.

        Returns:
            Running cells to end, because they are pruned, and cells of trials that another launcher has begun.
        """
        to_end = [cell for search in self.searches for cell in search.follow()]
        return to_end, self.refresh()

    def leave_out(self, cell: Cell) -> None:
        """Counts the trial of a cell that cannot be run as failed."""
        self._left_out.add(cell.path)
        self._count()

    def _next(self) -> PointSearch | None:
        """Returns the search with the fewest trials; None if all have all of theirs."""
        least = min(self.searches, key=lambda search: len(search.trials))
        return least if len(least.trials) < self.keys.num_trials else None

    def _count(self) -> None:
        """Counts the trials that occupy a place, and the open ones with a cell that has failed for good."""
        self._num_open, self._num_failed = sum(search.num_ending for search in self.searches), 0
        for search in self.searches:
            for trial, cells in zip(search.trials, search.cells, strict=True):
                if trial.is_open and any(self._has_failed(cell) for cell in cells):
                    self._num_failed += 1
                else:
                    self._num_open += trial.is_open

    def _has_failed(self, cell: Cell) -> bool:
        if cell.path in self._left_out:
            return True
        status = read_status(cell)
        return status.state is State.FAILED and not status.is_due(self.file.launch.retries)


def _prune(cells: Sequence[Cell]) -> list[Cell]:
    """Marks the unfinished cells of a pruned trial, and returns those that run."""
    running = []
    for cell in cells:
        state = read_status(cell).state
        with suppress(RunDirectoryError):  # a cell that is not marked is ended all the same
            if state is not State.FINISHED and cell.path.exists() and not read_attempts(cell.path).is_pruned:
                record_pruned(cell.path)
        if state is State.RUNNING:
            running.append(cell)
    return running


def _mean(values: Sequence[float | None]) -> float | None:
    """Returns the mean of values; None if one of them is unknown, or there are none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _fitness_at(lines: Sequence[MetricsLine], steps: int) -> float | None:
    """Returns the fitness that a run had at the end of the generation in which it reached some environment steps."""
    end = next(index for index, line in enumerate(lines) if (line.get("env_steps") or 0) >= steps)
    return final_fitness(lines[: end + 1])
