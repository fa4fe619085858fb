"""The header of a run, and its history with pace and remaining time."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evoconn_cli.progress.formatting import count, duration


@dataclass(frozen=True)
class RunHeader:
    """Facts about a run.

    Attributes:
        task: Name of the task.
        network: Name and size of the network, such as `conn_snn, 256 neurons`.
        strategy: Name of the strategy.
        num_parameters: Number of parameters that the strategy searches over.
        population: Members per generation, including evaluation copies.
        evaluation_copies: Members that are the deterministic network.
        devices: Devices in words, such as `2 x cpu`.
        run_dir: Run directory.
        generations: Generation at which the run ends.
        start_generation: 0, or the generation from which the run was resumed.
        most_steps: Environment steps per generation if every episode reaches its limit; None if unknown.
        expected: Expected time in words, such as `< 3 min 28 s`; None if unknown.
        max_env_steps: Environment steps after which the run ends; None for no limit.
        may_end_early: Whether the run may end before, by its fitness.
        on_gpus: Whether the devices are GPUs.
    """

    task: str
    network: str
    strategy: str
    num_parameters: int
    population: int
    evaluation_copies: int
    devices: str
    run_dir: str
    generations: int
    start_generation: int = 0
    most_steps: int | None = None
    expected: str | None = None
    max_env_steps: int | None = None
    may_end_early: bool = False
    on_gpus: bool = False

    def history(self, lines: Iterable[Metrics] = ()) -> History:
        """Returns the history of the run with earlier `lines` of metrics.jsonl."""
        return History(lines, self.most_steps, max_env_steps=self.max_env_steps, may_end_early=self.may_end_early)

    def rows(self) -> list[tuple[str, str]]:
        """Returns `(label, value)` pairs in the order to read them, the run directory last."""
        generations = count(self.generations)
        if self.start_generation:
            generations = f"{count(self.start_generation)} to {generations}, resumed"
        return [
            ("task", self.task),
            ("parameters", count(self.num_parameters)),
            ("network", self.network),
            ("population", f"{count(self.population)} ({count(self.evaluation_copies)} evaluate)"),
            ("strategy", self.strategy),
            ("generations", generations),
            ("devices", self.devices),
            *([("expected", self.expected)] if self.expected else []),
            ("run", self.run_dir),
        ]


class Compiled(NamedTuple):
    """How long a generation took to compile."""

    seconds: float  # [s]
    from_cache: bool  # whether the compiled program was loaded from the compilation cache

    def text(self) -> str:
        """Returns it in words, such as `2.8 s, from the cache`."""
        return f"{duration(self.seconds)}{', from the cache' if self.from_cache else ''}"


def last_time(last: Compiled | None) -> str:
    """Returns how long the compilation took last time, in parentheses; nothing if that is unknown."""
    return f" (last time {last.text()})" if last else ""


Metrics = Mapping[str, float | int | None]

RECENT = 20
"""Generations that the pace is measured over."""

_LONGER = 1.25
"""Ratio of the remaining time with full episodes to that at the present pace, from which the former is shown."""


class TimeLeft(NamedTuple):
    """The remaining time of a run."""

    seconds: float
    at_most: bool  # whether it may be less: all episodes are assumed to reach their limit, or the run may end early

    def text(self, passed: float = 0.0) -> str:
        """Returns the remaining time in words, `passed` [s] after it was computed."""
        return f"{'< ' if self.at_most else ''}{duration(max(0.0, self.seconds - passed))}"


class History:
    """The curves of a run, its best evaluation and its pace.

    Args:
        lines: Earlier lines of metrics.jsonl; not used for the pace, because they may come from another machine.
        most_steps: Environment steps per generation if every episode reaches its limit; None if unknown.
        max_env_steps: Environment steps after which the run ends; None for no limit.
        may_end_early: Whether the run may end before, by its fitness.
    """

    def __init__(
        self,
        lines: Iterable[Metrics] = (),
        most_steps: int | None = None,
        *,
        max_env_steps: int | None = None,
        may_end_early: bool = False,
    ) -> None:
        self._most_steps, self._max_env_steps, self._may_end_early = most_steps, max_env_steps, may_end_early
        self.evaluations: list[float | None] = []
        self.means: list[float | None] = []
        self.bests: list[float | None] = []
        self.best: tuple[float, int] | None = None
        self.last: Metrics = {}
        self._seconds: deque[float] = deque(maxlen=RECENT)
        self._steps: deque[float] = deque(maxlen=RECENT)
        for line in lines:
            self.add(line)
        self._seconds.clear()
        self._steps.clear()

    def add(self, metrics: Metrics) -> None:
        """Adds a line of metrics.jsonl."""
        seconds, steps = metrics.get("seconds"), metrics.get("env_steps")
        before = self.last.get("env_steps") if self.last else 0
        starts_late = not self.last and (metrics.get("generation") or 1) > 1
        if seconds is not None and steps is not None and before is not None and not starts_late:
            self._seconds.append(seconds)
            self._steps.append(steps - before)
        self.evaluations.append(metrics.get("eval_fitness"))
        self.means.append(metrics.get("fitness_mean"))
        self.bests.append(metrics.get("fitness_best"))
        self.best = best_evaluation([metrics], self.best)
        self.last = metrics

    def steps_per_second(self) -> float | None:
        """Returns the rate of recent generations [environment steps/s], None before the first."""
        seconds = sum(self._seconds)
        return sum(self._steps) / seconds if seconds > 0 else None

    def usual_seconds(self) -> float | None:
        """Returns the time that a recent generation took [s], None before the first."""
        return statistics.median(self._seconds) if self._seconds else None

    def seconds_left(self, generations: int) -> float | None:
        """Returns the time until `generations` at the recent pace [s], None if unknown."""
        usual = self.usual_seconds()
        return None if usual is None else usual * max(0, generations - int(self.last.get("generation") or 0))

    def time_left(self, generations: int) -> TimeLeft | None:
        """Returns the time until `generations`, None if unknown.

        It is an upper bound while episodes end early, because they get longer as members learn not to fall, and of
        runs that may end by their fitness.
        """
        left, rate, at_most = self.seconds_left(generations), self.steps_per_second(), False
        if left is None:
            return None
        if rate and self._most_steps:
            longest = self._most_steps / rate * (generations - int(self.last.get("generation") or 0))
            if longest > _LONGER * left:
                left, at_most = longest, True
        if rate and self._max_env_steps is not None:
            by_steps = max(0.0, self._max_env_steps - (self.last.get("env_steps") or 0)) / rate
            if by_steps < left:
                left, at_most = by_steps, False
        return TimeLeft(left, at_most or self._may_end_early)


FINAL_GENERATIONS = 10
"""Last generations whose mean evaluation fitness is the final fitness of a run."""


def final_fitness(lines: Sequence[Metrics]) -> float | None:
    """Returns the mean evaluation fitness of the last generations; None if they have none."""
    known = [fitness for line in lines[-FINAL_GENERATIONS:] if (fitness := line.get("eval_fitness")) is not None]
    return statistics.fmean(known) if known else None


def best_evaluation(
    lines: Iterable[Metrics], best: tuple[float, int] | None = None, key: str = "eval_fitness"
) -> tuple[float, int] | None:
    """Returns the highest evaluation fitness and its generation, the newest of equals; None if there is none.

    Args:
        lines: Lines of metrics.jsonl.
        best: Result for earlier lines.
        key: Key of the fitness.
    """
    for line in lines:
        fitness, generation = line.get(key), line.get("generation")
        if fitness is None or generation is None or not math.isfinite(fitness):
            continue
        if best is None or fitness >= best[0]:
            best = (float(fitness), int(generation))
    return best
