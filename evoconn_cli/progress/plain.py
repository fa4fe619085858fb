"""Progress as plain lines, for logs, pipes and terminals that cannot redraw."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console

from evoconn_cli.progress.formatting import count, duration, encodable, fitness, spike_rate
from evoconn_cli.progress.history import History, Metrics, RunHeader

SECONDS_BETWEEN_LINES = 5.0


class PlainProgress:
    """One line a generation, at most one every few seconds; the first and the last one always."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._generations = 0
        self._history = History()
        self._printed_at = float("-inf")
        self._waiting: str | None = None

    def start(self, header: RunHeader, history: Sequence[Metrics] = ()) -> None:
        """Prints the header; `history` is what metrics.jsonl holds of the generations before."""
        self._generations = header.generations
        self._history = History(history, header.most_steps)
        width = max(len(label) for label, _ in header.rows())
        for label, value in header.rows():
            self._print(f"{label:<{width}}  {value}")

    def compiling(self) -> None:
        """Prints that the generation is being compiled."""
        self._print("compiling ...")

    def compiled(self, seconds: float) -> None:
        """Prints how long that took [s]."""
        self._print(f"compiled in {duration(seconds)}")

    def generation(self, metrics: Metrics) -> None:
        """Prints one line of metrics.jsonl, unless one was printed a moment ago."""
        self._history.add(metrics)
        line = self._line(metrics)
        now = self._clock()
        due = now - self._printed_at >= SECONDS_BETWEEN_LINES
        self._waiting = line
        if due or (metrics.get("generation") or 0) >= self._generations:
            self._print_waiting()
            self._printed_at = now

    def note(self, message: str) -> None:
        """Prints an advice or a warning."""
        self._print(f"note: {message}")

    def stop(self) -> None:
        """Prints the last generation if it was held back."""
        self._print_waiting()

    def _line(self, metrics: Metrics) -> str:
        total = count(self._generations)
        rate = self._history.steps_per_second()
        left = self._history.time_left(self._generations)
        return "  ".join(
            [
                f"generation {count(metrics.get('generation')):>{len(total)}}/{total}",
                f"evaluation {fitness(metrics.get('eval_fitness')):>9}",
                f"best member {fitness(metrics.get('fitness_best')):>9}",
                f"mean member {fitness(metrics.get('fitness_mean')):>9}",
                f"{count(rate):>9} steps/s",
                f"{spike_rate(metrics.get('spikes_per_ms')):>6} spikes/s",
                f"left {left.text() if left else duration(None)}",
            ]
        )

    def _print_waiting(self) -> None:
        if self._waiting is not None:
            self._print(self._waiting)
            self._waiting = None

    def _print(self, line: str) -> None:
        _print_line(self._console, line)


class QuietProgress:
    """Notes and nothing else."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def start(self, header: RunHeader, history: Sequence[Metrics] = ()) -> None:
        """Does nothing."""

    def compiling(self) -> None:
        """Does nothing."""

    def compiled(self, seconds: float) -> None:
        """Does nothing."""

    def generation(self, metrics: Metrics) -> None:
        """Does nothing."""

    def note(self, message: str) -> None:
        """Prints an advice or a warning."""
        _print_line(self._console, f"note: {message}")

    def stop(self) -> None:
        """Does nothing."""


def _print_line(console: Console, line: str) -> None:
    line = encodable(line, ascii_only=console.options.ascii_only)
    console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
