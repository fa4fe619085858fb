"""How a training shows itself: the interface the loop talks to, and the table at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from evoconn_cli.progress.formatting import count, duration, encodable, fitness, number
from evoconn_cli.progress.history import Metrics, RunHeader, best_evaluation
from evoconn_cli.progress.live import LiveProgress
from evoconn_cli.progress.plain import PlainProgress, QuietProgress

__all__ = ["Progress", "RunHeader", "SummaryTable", "best_evaluation", "make_progress", "summary_table"]


class Progress(Protocol):
    """What the training loop tells; it never prints by itself."""

    def start(self, header: RunHeader, history: Sequence[Metrics] = ()) -> None:
        """Shows the header; `history` is what metrics.jsonl holds of the generations before."""
        ...

    def compiling(self) -> None:
        """Shows that the generation is being compiled, until `compiled`."""
        ...

    def compiled(self, seconds: float) -> None:
        """Shows how long the compilation took [s]."""
        ...

    def generation(self, metrics: Metrics) -> None:
        """Shows one line of metrics.jsonl."""
        ...

    def note(self, message: str) -> None:
        """Shows an advice or a warning; it stays in the scrollback."""
        ...

    def stop(self) -> None:
        """Leaves the terminal clean; also after an exception, also without `start`, also twice."""
        ...


def make_progress(console: Console, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> Progress:
    """Returns a live display where `console` is a terminal that can redraw, plain lines elsewhere.

    Args:
        console: where it is shown.
        quiet: show notes only.
        clock: seconds that only ever grow.
    """
    if quiet:
        return QuietProgress(console)
    if console.is_interactive:
        return LiveProgress(console, clock)
    return PlainProgress(console, clock)


def summary_table(lines: Sequence[Metrics], *, saved: Container[object] = (), title: str = "finished") -> SummaryTable:
    """Returns what a run has reached, to be printed by Rich.

    Args:
        lines: Lines of metrics.jsonl, at least one.
        saved: Generations that are saved.
        title: one word for how the run ended.
    """
    return SummaryTable(lines, saved, title)


def _at(best: tuple[float, int] | None) -> str:
    return f"{fitness(best[0])} at generation {count(best[1])}" if best else fitness(None)


class SummaryTable:
    """A small table of a run's results."""

    def __init__(self, lines: Sequence[Metrics], saved: Container[object], title: str) -> None:
        self._last = lines[-1]
        self._best = best_evaluation(lines)
        self._best_saved = best_evaluation(line for line in lines if line.get("generation") in saved)
        self._best_member = best_evaluation(lines, key="fitness_best")
        self._title = title

    def rows(self) -> list[tuple[str, str]]:
        """Returns `(label, value)` pairs."""
        last = self._last
        steps, simulated, elapsed = (
            last.get("env_steps"),
            last.get("env_steps_simulated"),
            last.get("elapsed"),
        )
        is_saved = self._best is None or self._best == self._best_saved
        share = f" ({number(100 * steps / simulated)} % counted)" if steps is not None and simulated else ""
        return [
            ("generations", count(last.get("generation"))),
            ("last evaluation", fitness(last.get("eval_fitness"))),
            ("best evaluation", _at(self._best) + ("" if is_saved else ", not saved")),
            *([] if is_saved or not self._best_saved else [("best saved", f"{_at(self._best_saved)}: --step best")]),
            ("last mean member", fitness(last.get("fitness_mean"))),
            ("best member", _at(self._best_member)),
            ("environment steps", count(steps)),
            ("simulated steps", count(simulated) + share),
            ("steps/s", count(steps / elapsed if steps is not None and elapsed else None)),
            ("elapsed", duration(elapsed)),
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the table in a panel that is no wider than it needs to be."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for label, value in self.rows():
            style = "bold green" if label == "best evaluation" else ""
            grid.add_row(label, Text(encodable(value, ascii_only=options.ascii_only), style=style))
        title = Text(self._title, style="bold")
        yield Panel(grid, title=title, title_align="left", border_style="dim", padding=(0, 2), expand=False)
