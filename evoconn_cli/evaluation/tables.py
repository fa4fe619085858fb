"""Tables of evaluated runs for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from evoconn_cli.config.perturbations import setting_text, swept_name
from evoconn_cli.evaluation.comparison import Aggregate, apart, has_several_steps
from evoconn_cli.evaluation.evaluating import Evaluated
from evoconn_cli.evaluation.neurobench import Figures, energy_nj
from evoconn_cli.evaluation.statistics import CONFIDENCE, Interval
from evoconn_cli.progress.formatting import MISSING_FIGURE, count, fitness, number, say

_ENERGY_NOTE = (
    "The energy is that of the additions and multiplications alone, as 32-bit floats: without memory, neurons and "
    "leakage, which usually cost more."
)

_LEVEL = f"{100 * CONFIDENCE:.0f} %"


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
        settings = [one.setting for one in evaluated]
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
    """Returns a line for every run; where there are several, its number stands for it in the tables."""
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
    """Returns a line for every run, checkpoint and setting with its returns and lengths."""
    table = _table("return of an episode")
    leading = _add_leading(table, evaluated)
    _add_numbers(table, "IQM", _LEVEL, "mean", "std", "median", "quartiles", "steps", "ended\nearly")
    failed = any(one.returns.failed for one in evaluated)
    _add_numbers(table, *(["not a\nnumber"] if failed else []))
    for one in evaluated:
        returns = one.returns
        table.add_row(
            *leading(one),
            Text(_short(returns.iqm), style="bold green"),
            _dots(*returns.iqm_interval) if returns.iqm_interval else MISSING_FIGURE,
            _short(returns.mean),
            _short(returns.std),
            _short(returns.median),
            _dots(returns.quartile_1, returns.quartile_3),
            _short(float(one.results.lengths.mean())),
            f"{100 * float(one.results.ended_early.mean()):.0f} %",
            *([count(one.returns.failed)] if failed else []),
        )
    return table


def figures_table(evaluated: Sequence[Evaluated], energy: str | None) -> Table:
    """Returns a line for every run, checkpoint and setting with its figures for one environment step."""
    table = _table("one environment step")
    leading = _add_leading(table, evaluated)
    _add_numbers(table, "weights\nbytes", "conn.\nsparse", "act.\nsparse", "ACs", "MACs", "dense\nops")
    _add_numbers(table, "spikes/s\nexc., inh.", *([f"{energy}\nnJ"] if energy else []))
    for one in evaluated:
        figures, footprint = one.figures, one.figures.footprint
        typed = figures.spikes_per_second_excitatory, figures.spikes_per_second_inhibitory
        table.add_row(
            *leading(one),
            count(footprint.weights if footprint.weights_packed is None else footprint.weights_packed),
            number(figures.connection_sparsity, 3),
            number(figures.activation_sparsity, 3),
            count(figures.effective_acs),
            count(figures.effective_macs),
            count(figures.dense_operations),
            number(figures.spikes_per_second) if typed == (None, None) else rates_by_type(figures),
            *([number(energy_nj(figures, energy), 2)] if energy else []),
        )
    return table


def aggregates_table(aggregates: Sequence[Aggregate], *, scaled: bool) -> Table:
    """Returns a line for every group of runs.

    Args:
        aggregates: the groups.
        scaled: whether scores were divided by a reference return.
    """
    table = _table("runs together: " + ("mean returns, relative to the references" if scaled else "mean returns"))
    swept = swept_name([one.setting for one in aggregates])
    several_steps = any(one.generation is not None for one in aggregates)
    steps = ["generation"] if several_steps else []
    for name in ["algo", "network", *steps, *([swept] if swept else []), "runs"]:
        table.add_column(name)
    _add_numbers(table, "IQM", _LEVEL)
    digits = 3 if scaled else 1
    for one in aggregates:
        runs = ", ".join(f"{number} × {task}" for task, number in one.runs.items())
        if one.failed:
            runs += f"; {one.failed} without a score"
        table.add_row(
            one.algo,
            f"{one.network}, {one.num_neurons}",
            *([count(one.generation)] if several_steps else []),
            *([f"{one.setting[swept]:g}"] if swept else []),
            runs,
            Text(number(one.iqm, digits), style="bold green"),
            f"{number(one.interval.low, digits)}..{number(one.interval.high, digits)}"
            if one.interval
            else MISSING_FIGURE,
        )
    return table


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        border_style="dim",
        header_style="dim",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )


def _runs(evaluated: Sequence[Evaluated]) -> dict[Path, int]:
    """Returns the number of every run, from 1."""
    found = dict.fromkeys(one.opened.directory.path for one in evaluated)
    return {run: index for index, run in enumerate(found, start=1)}


def _add_leading(table: Table, evaluated: Sequence[Evaluated]) -> Callable[[Evaluated], list[str]]:
    """Adds the columns that tell the lines apart, and returns what fills them."""
    runs, swept = _runs(evaluated), swept_name([one.setting for one in evaluated])
    several_steps = has_several_steps(evaluated)
    if len(runs) > 1:
        _add_numbers(table, "run")
    if several_steps:
        _add_numbers(table, "gener-\nation")
    if swept is not None:
        _add_numbers(table, swept.replace("-", "\n"))

    def leading(one: Evaluated) -> list[str]:
        return [
            *([str(runs[one.opened.directory.path])] if len(runs) > 1 else []),
            *([count(one.opened.generation)] if several_steps else []),
            *([f"{one.setting[swept]:g}"] if swept is not None else []),
        ]

    return leading


def _add_numbers(table: Table, *names: str) -> None:
    for name in names:
        table.add_column(name, justify="right", overflow="fold")


def rates_by_type(figures: Figures) -> str:
    """Returns the rates of excitatory and inhibitory neurons; a dash where a network has no such types."""
    rates = (figures.spikes_per_second_excitatory, figures.spikes_per_second_inhibitory)
    return MISSING_FIGURE if rates == (None, None) else ", ".join(number(rate) for rate in rates)


def _short(value: float) -> str:
    return number(value, 1 if abs(value) < 999.95 else 0)


def _dots(low: float, high: float) -> str:
    return f"{_short(low)}..{_short(high)}"


def single_panel(one: Evaluated, *, policy: str, seed: int, energy: str | None) -> Panel:
    """Returns everything about one evaluated policy, to be printed by Rich.

    Args:
        one: the policy after its episodes.
        policy: `deterministic` or `sampled`.
        seed: of the episodes.
        energy: technology of the energy estimate, or None.
    """
    config, returns, early = one.opened.config, one.returns, one.results.ended_early
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")

    def section(title: str, rows: Sequence[tuple[str, str]]) -> None:
        if grid.row_count:
            grid.add_row("", "")
        grid.add_row(Text(title, style="bold"), "")
        for label, value in rows:
            grid.add_row(f"  {label}", Text(value, style="bold green" if label == "interquartile mean" else ""))

    episodes = f"{count(len(one.results.lengths))}, seed {seed}"
    perturbed = [("perturbed", setting_text(one.setting))] if one.setting else []
    section(
        f"{config.task.name}, {config.network.name} of {config.network.num_neurons} neurons, {config.algo.name}",
        [
            ("run", one.opened.directory.short_path()),
            ("generation", count(one.opened.generation)),
            *([("network", str(one.opened.bundle))] if one.opened.bundle else []),
            ("policy", policy),
            ("episodes", episodes),
            *perturbed,
        ],
    )
    left_out = f"{count(returns.failed)} episode{'s' * (returns.failed != 1)}, left out"
    failed = [("not a number", left_out)] if returns.failed else []
    section(
        "return of an episode",
        [
            ("interquartile mean", f"{fitness(returns.iqm)}{_interval(returns.iqm_interval)}"),
            ("mean", f"{fitness(returns.mean)}, standard deviation {fitness(returns.std)}"),
            ("median", f"{fitness(returns.median)}, quartiles {_range(returns.quartile_1, returns.quartile_3)}"),
            ("range", _range(returns.minimum, returns.maximum)),
            *failed,
        ],
    )
    section(
        "steps of an episode",
        [
            ("mean", _length(one)),
            ("ended early", f"{count(int(early.sum()))} of {count(len(early))} episodes"),
        ],
    )
    section("one environment step", _figures(one, energy))
    return Panel(grid, title="evaluation", title_align="left", border_style="dim", padding=(0, 2), expand=False)


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
        rows.append(("excitatory, inhibitory", rates_by_type(figures)))
    if energy is not None:
        rows.append((f"arithmetic, {energy}", f"{number(energy_nj(figures, energy), 2)} nJ"))
    return rows


def _length(one: Evaluated) -> str:
    lengths = one.results.lengths
    return f"{number(float(lengths.mean()))}, range {count(int(lengths.min()))} to {count(int(lengths.max()))}"


def _range(low: float, high: float) -> str:
    return f"{fitness(low)} to {fitness(high)}"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f", {100 * CONFIDENCE:.0f} % interval {_range(interval.low, interval.high)}"
