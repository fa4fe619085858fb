"""Everything about one evaluated policy, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from evoconn_cli.config.perturbations import setting_text
from evoconn_cli.runs.evaluation.evaluating import Evaluated
from evoconn_cli.runs.evaluation.neurobench import energy_nj
from evoconn_cli.runs.evaluation.statistics import CONFIDENCE, Interval
from evoconn_cli.runs.evaluation.tables import rates_by_type
from evoconn_cli.runs.progress.formatting import count, fitness, number


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
