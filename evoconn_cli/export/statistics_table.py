"""The statistics of one or several connectomes as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table

from evoconn_cli.export.statistics import Measure, Statistics

_NAMES = {
    "reciprocity": "reciprocity",
    "clustering": "clustering",
    "path_length": "path length",
    "modularity": "modularity",
}


def statistics_table(statistics: Sequence[Statistics]) -> Table:
    """Returns a table with a row for every statistic of one connectome, or for every one of several connectomes."""
    return _of_one(statistics[0]) if len(statistics) == 1 else _of_several(statistics)


def _of_one(one: Statistics) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=f"Connectome of generation {one.generation}", title_justify="left")
    table.add_column("")
    for name in ("value", f"{one.random_graphs} random graphs", "z"):
        table.add_column(name, justify="right", no_wrap=True)
    sizes = one.sizes
    table.add_row("neurons", f"{sizes['excitatory']} E, {sizes['inhibitory']} I", "", "")
    for kernel in ("input", "recurrent", "output"):
        connections = f"{sizes[f'{kernel}_connections']:,}"
        table.add_row(f"{kernel} connections", f"{connections}, density {one.density[kernel]:.3f}", "", "")
    for name, density in one.density.items():
        if "->" in name:
            table.add_row(f"density {name}", f"{density:.3f}", "", "")
    table.add_section()
    for name, label in _NAMES.items():
        measure: Measure = getattr(one, name)
        table.add_row(label, _number(measure.value, ".4f"), _random(measure), _number(measure.z, "+.1f"))
    table.add_row("small-worldness", _number(one.small_worldness, ".4f"), "1", "")
    table.add_row("communities", ", ".join(map(str, one.communities)), "", "")
    table.add_row("strong components", _listed(one.components), "", "")
    table.add_section()
    for label, degrees in (("in-degree", one.in_degree), ("out-degree", one.out_degree)):
        table.add_row(label, f"{degrees.mean:.1f} ± {degrees.std:.2f}", f"± {degrees.random_std:.2f}", "")
        table.add_row(f"entropy of {label}", f"{degrees.entropy:.2f} bits", "", "")
    table.add_row("balance (E - I) / (E + I)", f"{one.balance:+.3f} ± {one.balance_std:.3f}", "", "")
    for action, counts in enumerate(one.onto_actions):
        table.add_row(f"onto action {action}", f"{counts['E']} E, {counts['I']} I", "", "")
    table.add_section()
    certainty = one.certainty["all"]
    table.add_row("entropy of probabilities", f"{certainty.entropy:.3f} bits", "", "")
    table.add_row("saturated probabilities", f"{100 * certainty.saturated:.1f} %", "", "")
    return table


def _of_several(statistics: Sequence[Statistics]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="The connectome over generations", title_justify="left")
    compared = ("reciprocity", "clustering", "modularity")
    for name in ("gen.", "density", "entropy", "saturated", *compared):
        table.add_column(name, justify="right", no_wrap=True)
    for one in statistics:
        certainty = one.certainty["all"]
        table.add_row(
            str(one.generation),
            f"{one.density['all']:.3f}",
            f"{certainty.entropy:.3f}",
            f"{100 * certainty.saturated:.1f} %",
            *(_number(getattr(one, name).value, ".4f") for name in compared),
        )
    return table


def _random(measure: Measure) -> str:
    return f"{measure.random_mean:.4f} ± {measure.random_std:.4f}"


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "–"


def _listed(sizes: Sequence[int]) -> str:
    """Returns the first sizes, and how many more there are."""
    shown = ", ".join(map(str, sizes[:6]))
    return shown if len(sizes) <= 6 else f"{shown} and {len(sizes) - 6} more"
