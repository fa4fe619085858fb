"""Displays of a training: the interface that the loop reports to, plain lines, and the table at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from rich.console import Console, ConsoleOptions, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from evoconn_cli.progress.formatting import count, duration, encodable, fitness, number, say, spike_rate
from evoconn_cli.progress.history import Compiled, History, Metrics, RunHeader, best_evaluation, last_time

SECONDS_BETWEEN_LINES = 5.0

ProgressKind: TypeAlias = Literal["auto", "plain"] | None
"""Display of a training in Python: a live one in a notebook or a terminal, plain lines, or none."""


class Progress:
    """Receives what happens in a training. This base class shows nothing."""

    def start(self, header: RunHeader, history: Sequence[Metrics] = ()) -> None:
        """Shows the header; `history` holds the lines of metrics.jsonl so far."""

    def starting(self, what: str) -> None:
        """Shows what takes time before `start`, such as `starting JAX`."""

    def compiling(self, last: Compiled | None = None) -> None:
        """Shows that the generation is being compiled, until `compiled`; `last` is how long it took last time."""

    def compiled(self, took: Compiled) -> None:
        """Shows how long the compilation took."""

    def generation(self, metrics: Metrics) -> None:
        """Shows a line of metrics.jsonl."""

    def saved(self, seconds: float) -> None:
        """Shows how long saving kept the training waiting [s]."""

    def note(self, message: str) -> None:
        """Shows an advice or a warning, which stays in the scrollback."""

    def stop(self) -> None:
        """Leaves the terminal clean; may be called twice, without `start`, and after an exception."""


def make_progress(console: Console, clock: Callable[[], float] = time.monotonic) -> Progress:
    """Returns a live display if `console` is a terminal that can redraw, plain lines otherwise.

    Args:
        console: Console to show it on.
        clock: Monotonic clock [s].
    """
    if console.is_interactive:
        from evoconn_cli.progress.live import LiveProgress

        return LiveProgress(console, clock)
    return PlainProgress(console, clock)


def choose_progress(kind: ProgressKind) -> Progress:
    """Returns the display of a training in Python, on standard output.

    Raises:
        ValueError: The kind is not known.
    """
    if kind is None:
        return Progress()
    if kind not in ("auto", "plain"):
        raise ValueError(f"progress={kind!r}: write 'auto', 'plain' or None")
    if kind == "plain":
        return PlainProgress(Console(force_jupyter=False))
    console = Console()
    if console.is_jupyter:
        from evoconn_cli.progress.live import LiveProgress

        return LiveProgress(console)
    return make_progress(console)


class PlainProgress(Progress):
    """Plain lines for logs and pipes: the first and the last generation, and one every few seconds.

    Args:
        console: Console to print on.
        clock: Monotonic clock [s].
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._generations = 0
        self._history = History()
        self._printed_at = float("-inf")
        self._waiting: str | None = None

    def start(self, header: RunHeader, history: Sequence[Metrics] = ()) -> None:
        """Prints the header."""
        self._generations = header.generations
        self._history = header.history(history)
        width = max(len(label) for label, _ in header.rows())
        for label, value in header.rows():
            self._print(f"{label:<{width}}  {value}")

    def starting(self, what: str) -> None:
        """Prints what takes time before `start`."""
        self._print(f"{what} ...")

    def compiling(self, last: Compiled | None = None) -> None:
        """Prints that the generation is being compiled, and how long it took last time."""
        self._print(f"compiling ...{last_time(last)}")

    def compiled(self, took: Compiled) -> None:
        """Prints how long the compilation took."""
        self._print(f"compiled in {took.text()}")

    def generation(self, metrics: Metrics) -> None:
        """Prints a line of metrics.jsonl, or keeps it if another was printed a moment ago."""
        self._history.add(metrics)
        self._waiting = self._line(metrics)
        now = self._clock()
        is_due = now - self._printed_at >= SECONDS_BETWEEN_LINES
        if is_due or (metrics.get("generation") or 0) >= self._generations:
            self.stop()
            self._printed_at = now

    def note(self, message: str) -> None:
        """Prints an advice or a warning."""
        self._print(f"note: {message}")

    def stop(self) -> None:
        """Prints the last generation if it was kept."""
        if self._waiting is not None:
            self._print(self._waiting)
            self._waiting = None

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

    def _print(self, line: str) -> None:
        say(self._console, encodable(line, ascii_only=self._console.options.ascii_only))


class SummaryTable:
    """A small table of a run's results.

    Args:
        lines: Lines of metrics.jsonl, at least one.
        best: Generation of the best network and its smoothed evaluation fitness, if it is saved.
        ended: Why the training ended; empty if unknown.
        title: One word for how the run ended.
    """

    def __init__(
        self,
        lines: Sequence[Metrics],
        *,
        best: tuple[int, float] | None = None,
        ended: str = "",
        title: str = "finished",
    ) -> None:
        self._last = lines[-1]
        self._ended = ended
        self._best_saved = best
        self._best = best_evaluation(lines)
        self._best_member = best_evaluation(lines, key="fitness_best")
        self._title = title

    def rows(self) -> list[tuple[str, str]]:
        """Returns `(label, value)` pairs."""
        last = self._last
        steps, simulated, elapsed = (last.get(key) for key in ("env_steps", "env_steps_simulated", "elapsed"))
        saved = self._best_saved
        share = f" ({number(100 * steps / simulated)} % counted)" if steps is not None and simulated else ""
        return [
            *([("ended", self._ended)] if self._ended else []),
            ("generations", count(last.get("generation"))),
            *(
                [("best network", f"{fitness(saved[1])} smoothed, generation {count(saved[0])}: --step best")]
                if saved
                else []
            ),
            ("last evaluation", fitness(last.get("eval_fitness"))),
            ("best evaluation", _at(self._best)),
            ("last mean member", fitness(last.get("fitness_mean"))),
            ("best member ever", _at(self._best_member)),
            ("environment steps", count(steps)),
            ("simulated steps", count(simulated) + share),
            ("steps/s", count(steps / elapsed if steps is not None and elapsed else None)),
            ("elapsed", duration(elapsed)),
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the table in a panel that is no wider than necessary."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for label, value in self.rows():
            style = "bold green" if label == "best network" else ""
            grid.add_row(label, Text(encodable(value, ascii_only=options.ascii_only), style=style))
        title = Text(self._title, style="bold")
        yield Panel(grid, title=title, title_align="left", border_style="dim", padding=(0, 2), expand=False)


def _at(best: tuple[float, int] | None) -> str:
    return f"{fitness(best[0])} at generation {count(best[1])}" if best else fitness(None)
