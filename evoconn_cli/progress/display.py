"""Displays of a training: the interface that the loop reports to, plain lines, and the table at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from rich.console import Console
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
    """Returns a live display if `console` is a notebook or a terminal that can redraw, plain lines otherwise.

    Args:
        console: Console to show it on.
        clock: Monotonic clock [s].
    """
    if console.is_interactive or console.is_jupyter:
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
    return make_progress(Console())


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


def print_summary(console: Console, rows: Sequence[tuple[str, str]], title: str) -> None:
    """Prints the `summary_rows` of a run in a panel whose title says how the run ended."""
    console.print(rows_panel(f"[bold]{title}", rows, "best network", ascii_only=console.options.ascii_only))


def summary_rows(
    lines: Sequence[Metrics], *, best: tuple[int, float] | None = None, ended: str = ""
) -> list[tuple[str, str]]:
    """Returns the results of a run as `(label, value)` pairs.

    Args:
        lines: Lines of metrics.jsonl, at least one.
        best: Generation of the best network and its smoothed evaluation fitness, if it is saved.
        ended: Why the training ended; empty if unknown.
    """
    last = lines[-1]
    steps, simulated, elapsed = (last.get(key) for key in ("env_steps", "env_steps_simulated", "elapsed"))
    share = f" ({number(100 * steps / simulated)} % counted)" if steps is not None and simulated else ""
    network = f"{fitness(best[1])} smoothed, generation {count(best[0])}: --step best" if best else ""
    return [
        *([("ended", ended)] if ended else []),
        ("generations", count(last.get("generation"))),
        *([("best network", network)] if network else []),
        ("last evaluation", fitness(last.get("eval_fitness"))),
        ("best evaluation", _highest(lines, "eval_fitness")),
        ("last mean member", fitness(last.get("fitness_mean"))),
        ("best member ever", _highest(lines, "fitness_best")),
        ("environment steps", count(steps)),
        ("simulated steps", count(simulated) + share),
        ("steps/s", count(steps / elapsed if steps is not None and elapsed else None)),
        ("elapsed", duration(elapsed)),
    ]


def _highest(lines: Sequence[Metrics], key: str) -> str:
    best = best_evaluation(lines, key=key)
    return f"{fitness(best[0])} at generation {count(best[1])}" if best else fitness(None)


def rows_panel(
    title: str, rows: Iterable[tuple[str | Text, str]], highlighted: str, *, ascii_only: bool = False
) -> Panel:
    """Returns a panel of labels and values, no wider than necessary.

    Args:
        title: Title, with Rich's markup.
        rows: Labels and values.
        highlighted: Label of the most important value.
        ascii_only: Whether the terminal has no Unicode.
    """
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in rows:
        style = "bold green" if label == highlighted else ""
        grid.add_row(label, Text(encodable(value, ascii_only=ascii_only), style=style))
    return Panel(grid, title=title, title_align="left", border_style="dim", padding=(0, 2), expand=False)
