"""Tables of evaluated runs for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any, TypeAlias

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from evoconn_cli.config.perturbations import setting_text, swept_name
from evoconn_cli.evaluation.comparison import Aggregate, apart, has_several_steps
from evoconn_cli.evaluation.evaluating import Evaluated
from evoconn_cli.evaluation.neurobench import Figures, energy_nj
from evoconn_cli.evaluation.statistics import LEVEL
from evoconn_cli.progress.display import rows_panel
from evoconn_cli.progress.formatting import MISSING_FIGURE, count, fitness, number, say

_ENERGY_NOTE = (
    "The energy is that of the additions and multiplications alone, as 32-bit floats: without memory, neurons and "
    "leakage, which usually cost more."
)


def print_results(
    console: Console,
    evaluated: Sequence[Evaluated],
    aggregates: Sequence[Aggregate],
    *,
    policy: str,
    seed: int,
    energy: str | None,
    scaled: bool,
) -> None:
    """Prints a panel for a single result, or the tables of several.

    Args:
        console: Console to print on.
        evaluated: Results of all runs and settings.
        aggregates: Results of runs that belong together.
        policy: `deterministic` or `sampled`.
        seed: Random seed of the episodes.
        energy: Technology of the energy estimate, or None.
        scaled: Whether scores were divided by a reference return.
    """
    if len(evaluated) == 1:
        console.print(single_panel(evaluated[0], policy=policy, seed=seed, energy=energy))
    else:
        settings = [one.perturbations for one in evaluated]
        also = setting_text(settings[0], without=swept_name(settings))
        head = f"{policy} policy, {len(evaluated[0].results.returns)} episodes, seed {seed}"
        say(console, f"{head}; perturbed: {also}" if also else head)
        for line in runs_list(evaluated):
            say(console, line)
        console.print()
        console.print(returns_table(evaluated))
        console.print(figures_table(evaluated, energy))
    if aggregates:
        console.print(aggregates_table(aggregates, scaled=scaled))
        if not scaled and any(len(one.runs) > 1 for one in aggregates):
            console.print("Returns of different tasks are mixed as they are: --reference TASK=RETURN scales them.")
    for note in apart(evaluated) if len(evaluated) > 1 else ():
        say(console, note)
    if energy is not None:
        console.print(_ENERGY_NOTE, style="dim")


def runs_list(evaluated: Sequence[Evaluated]) -> list[str]:
    """Returns a line for every run, which begins with its number in the tables if there are several."""
    lines, runs = [], _runs(evaluated)
    for path, number_of_run in runs.items():
        of_run = [one.opened for one in evaluated if one.opened.directory.path == path]
        opened, generations = of_run[0], sorted({one.generation for one in of_run})
        config, short = opened.config, opened.directory.short_path()
        what = f"{config.task.name}, {config.network.name} of {config.network.num_neurons}, {config.algo.name}"
        first, last = count(generations[0]), count(generations[-1])
        when = f"generation {first}" if len(generations) == 1 else f"{len(generations)} generations, {first} to {last}"
        whence = f"; {opened.bundle}" if opened.bundle else ""
        line = f"{short}: {what}, seed {config.seed}, {when}{whence}"
        lines.append(f"{number_of_run}  {line}" if len(runs) > 1 else line)
    return lines


def returns_table(evaluated: Sequence[Evaluated]) -> Table:
    """Returns the returns and lengths of every run, checkpoint and setting, one per row."""
    columns: _Columns = {
        **_leading(evaluated),
        "IQM": lambda one: Text(_short(one.returns.iqm), style="bold green"),
        LEVEL: lambda one: _dots(one.returns.iqm_interval),
        "mean": lambda one: _short(one.returns.mean),
        "std": lambda one: _short(one.returns.std),
        "median": lambda one: _short(one.returns.median),
        "quartiles": lambda one: _dots((one.returns.quartile_1, one.returns.quartile_3)),
        "steps": lambda one: _short(float(one.results.lengths.mean())),
        "ended\nearly": lambda one: f"{100 * float(one.results.ended_early.mean()):.0f} %",
    }
    if any(one.returns.failed for one in evaluated):
        columns["not a\nnumber"] = lambda one: count(one.returns.failed)
    return _table("return of an episode", evaluated, columns)


def figures_table(evaluated: Sequence[Evaluated], energy: str | None) -> Table:
    """Returns the figures for one environment step of every run, checkpoint and setting, one per row."""
    columns: _Columns = {
        **_leading(evaluated),
        "weights\nbytes": lambda one: count(_packed_bytes(one.figures)),
        "conn.\nsparse": lambda one: number(one.figures.connection_sparsity, 3),
        "act.\nsparse": lambda one: number(one.figures.activation_sparsity, 3),
        "ACs": lambda one: count(one.figures.effective_acs),
        "MACs": lambda one: count(one.figures.effective_macs),
        "dense\nops": lambda one: count(one.figures.dense_operations),
        "spikes/s\nexc., inh.": lambda one: _rates_by_type(one.figures) or number(one.figures.spikes_per_second),
    }
    if energy:
        columns[f"{energy}\nnJ"] = lambda one: number(energy_nj(one.figures, energy), 2)
    return _table("one environment step", evaluated, columns)


def aggregates_table(aggregates: Sequence[Aggregate], *, scaled: bool) -> Table:
    """Returns the results of every group of runs, one per row.

    Args:
        aggregates: Results of the groups.
        scaled: Whether scores were divided by a reference return.
    """
    swept = swept_name([one.perturbations for one in aggregates])
    digits = 3 if scaled else 1
    columns: _Columns = {"algo": lambda one: one.algo, "network": lambda one: f"{one.network}, {one.num_neurons}"}
    if any(one.generation is not None for one in aggregates):
        columns["generation"] = lambda one: count(one.generation)
    if swept:
        columns[swept] = lambda one: f"{one.perturbations[swept]:g}"
    columns["runs"] = _runs_in_words
    left = set(columns)
    columns["IQM"] = lambda one: Text(number(one.iqm, digits), style="bold green")
    columns[LEVEL] = lambda one: _dots(one.iqm_interval, lambda value: number(value, digits))
    title = "runs together: " + ("mean returns, relative to the references" if scaled else "mean returns")
    return _table(title, aggregates, columns, left=left)


_Columns: TypeAlias = dict[str, Callable[[Any], str | Text]]
"""Title of each column, and the cell in it of an `Evaluated` or an `Aggregate`."""


def _table(title: str, rows: Sequence[Any], columns: _Columns, *, left: Set[str] = frozenset()) -> Table:
    """Returns a table whose columns are aligned to the right, except those in `left`."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        border_style="dim",
        header_style="dim",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in columns:
        if name in left:
            table.add_column(name)
        else:
            table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*(cell(row) for cell in columns.values()))
    return table


def _leading(evaluated: Sequence[Evaluated]) -> _Columns:
    """Returns the columns that tell the rows apart."""
    runs, swept = _runs(evaluated), swept_name([one.perturbations for one in evaluated])
    columns: _Columns = {}
    if len(runs) > 1:
        columns["run"] = lambda one: str(runs[one.opened.directory.path])
    if has_several_steps(evaluated):
        columns["gener-\nation"] = lambda one: count(one.opened.generation)
    if swept is not None:
        columns[swept.replace("-", "\n")] = lambda one: f"{one.perturbations[swept]:g}"
    return columns


def _runs(evaluated: Sequence[Evaluated]) -> dict[Path, int]:
    """Returns the number of every run, from 1."""
    found = dict.fromkeys(one.opened.directory.path for one in evaluated)
    return {run: index for index, run in enumerate(found, start=1)}


def _runs_in_words(one: Aggregate) -> str:
    runs = ", ".join(f"{number} × {task}" for task, number in one.runs.items())
    return f"{runs}; {one.failed} without a score" if one.failed else runs


def _packed_bytes(figures: Figures) -> int:
    footprint = figures.footprint
    return footprint.weights if footprint.weights_packed is None else footprint.weights_packed


def _rates_by_type(figures: Figures) -> str | None:
    """Returns the rates of excitatory and inhibitory neurons; None for a network without such types."""
    rates = (figures.spikes_per_second_excitatory, figures.spikes_per_second_inhibitory)
    return None if rates == (None, None) else ", ".join(map(number, rates))


def _short(value: float) -> str:
    return number(value, 1 if abs(value) < 999.95 else 0)


def _dots(bounds: tuple[float, float] | None, written: Callable[[float], str] = _short) -> str:
    return "..".join(map(written, bounds)) if bounds else MISSING_FIGURE


def single_panel(one: Evaluated, *, policy: str, seed: int, energy: str | None) -> Panel:
    """Returns everything about one evaluated policy, to be printed by Rich.

    Args:
        one: Results of the policy.
        policy: `deterministic` or `sampled`.
        seed: Random seed of the episodes.
        energy: Technology of the energy estimate, or None.
    """
    config, returns = one.opened.config, one.returns
    lengths, early = one.results.lengths, one.results.ended_early
    lines: list[tuple[str | Text, str]] = []

    def section(title: str, rows: Sequence[tuple[str, str]]) -> None:
        if lines:
            lines.append(("", ""))
        lines.append((Text(title, style="bold"), ""))
        lines.extend((f"  {label}", value) for label, value in rows)

    section(
        f"{config.task.name}, {config.network.name} of {config.network.num_neurons} neurons, {config.algo.name}",
        [
            ("run", one.opened.directory.short_path()),
            ("generation", count(one.opened.generation)),
            *([("network", str(one.opened.bundle))] if one.opened.bundle else []),
            ("policy", policy),
            ("episodes", f"{count(len(lengths))}, seed {seed}"),
            *([("perturbed", setting_text(one.perturbations))] if one.perturbations else []),
        ],
    )
    left_out = f"{count(returns.failed)} episode{'s' * (returns.failed != 1)}, left out"
    interval = f", {LEVEL} interval {_range(*returns.iqm_interval)}" if returns.iqm_interval else ""
    section(
        "return of an episode",
        [
            ("interquartile mean", f"{fitness(returns.iqm)}{interval}"),
            ("mean", f"{fitness(returns.mean)}, standard deviation {fitness(returns.std)}"),
            ("median", f"{fitness(returns.median)}, quartiles {_range(returns.quartile_1, returns.quartile_3)}"),
            ("range", _range(returns.minimum, returns.maximum)),
            *([("not a number", left_out)] if returns.failed else []),
        ],
    )
    section(
        "steps of an episode",
        [
            (
                "mean",
                f"{number(float(lengths.mean()))}, range {count(int(lengths.min()))} to {count(int(lengths.max()))}",
            ),
            ("ended early", f"{count(int(early.sum()))} of {count(len(early))} episodes"),
        ],
    )
    section("one environment step", _figures(one, energy))
    return rows_panel("evaluation", lines, "  interquartile mean")


def _figures(one: Evaluated, energy: str | None) -> list[tuple[str, str]]:
    figures, footprint = one.figures, one.figures.footprint
    packed = [] if footprint.weights_packed is None else [("as bits", f"{count(footprint.weights_packed)} B")]
    rows = [
        ("weights", f"{count(footprint.weights)} B"),
        *packed,
        ("state, normaliser", f"{count(footprint.state)} B, {count(footprint.normalizer)} B"),
        ("connection sparsity", number(figures.connection_sparsity, 3)),
    ]
    if figures.activation_sparsity is not None:
        rows.append(("activation sparsity", number(figures.activation_sparsity, 4)))
        rows.append(("effective ACs", count(figures.effective_acs)))
    rows += [("effective MACs", count(figures.effective_macs)), ("dense operations", count(figures.dense_operations))]
    if figures.membrane_updates is not None:
        rows.append(("membrane updates", count(figures.membrane_updates)))
        rows.append(("spikes/s per neuron", number(figures.spikes_per_second)))
        rows.append(("excitatory, inhibitory", _rates_by_type(figures) or MISSING_FIGURE))
    if energy is not None:
        rows.append((f"arithmetic, {energy}", f"{number(energy_nj(figures, energy), 2)} nJ"))
    return rows


def _range(low: float, high: float) -> str:
    return f"{fitness(low)} to {fitness(high)}"
