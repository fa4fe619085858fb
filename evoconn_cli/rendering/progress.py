"""How rendering shows itself: bars in a terminal, lines elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class RenderProgress:
    """A bar for the part of the work that is going on; notes stay in the scrollback.

    Args:
        console: where it is shown.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> RenderProgress:
        if self._console.is_interactive:
            columns = (
                TextColumn("{task.description:<8}"),
                BarColumn(complete_style="cyan", finished_style="cyan"),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeRemainingColumn(compact=True),
            )
            self._bars = Progress(*columns, console=self._console, transient=True)
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def start(self, what: str, total: int, unit: str) -> None:
        """Begins a part of the work with so many units, such as `drawing`, 240, `frames`."""
        if self._bars is None:
            self._console.print(f"{what} {total:,} {unit}", highlight=False)
            return
        for task in self._bars.task_ids:
            self._bars.remove_task(task)
        # It moves without counting until the first unit is done, which waits for what is compiled.
        self._task = self._bars.add_task(what, total=total, unit=unit, start=False)

    def advance(self, done: int) -> None:
        """Shows that `done` units of it are done."""
        if self._bars is not None:
            self._bars.start_task(self._task)
            self._bars.update(self._task, completed=done)

    def note(self, message: str) -> None:
        """Shows a sentence."""
        self._console.print(message, markup=False, highlight=False, emoji=False, soft_wrap=True)
