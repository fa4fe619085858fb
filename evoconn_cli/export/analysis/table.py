"""The statistics of one or several connectomes as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.table import Table

from evoconn_cli.export.analysis.degrees import Degrees
from evoconn_cli.export.analysis.statistics import Measure, Statistics
from evoconn_cli.export.projections import KERNELS

_NAMES = {
    "reciprocity": "reciprocity",
    "clustering": "clustering",
    "path_length": "path length",
    "modularity": "modularity",
}


class Row(NamedTuple):
    """One statistic in words."""

    label: str
    value: str
    random: str = ""  # of random graphs
    z: str = ""


def statistics_table(statistics: Sequence[Statistics]) -> Table:
    """Returns a table with a row for every statistic of one connectome, or for every one of several connectomes."""
    return _of_one(statistics[0]) if len(statistics) == 1 else _of_several(statistics)


def statistics_rows(one: Statistics) -> list[list[Row]]:
    """Returns the rows of a connectome, in sections."""
    sizes, certainty = one.sizes, one.certainty["all"]
    kernels = [
        Row(f"{kernel} connections", f"{sizes[f'{kernel}_connections']:,}, density {one.density[kernel]:.3f}")
        for kernel in KERNELS
    ]
    blocks = [Row(f"density {name}", f"{density:.3f}") for name, density in one.density.items() if "->" in name]
    compared: list[tuple[str, Measure]] = [(label, getattr(one, name)) for name, label in _NAMES.items()]
    actions = [
        Row(f"onto action {action}", f"{counts['E']} E, {counts['I']} I")
        for action, counts in enumerate(one.onto_actions)
    ]
    return [
        [Row("neurons", f"{sizes['excitatory']} E, {sizes['inhibitory']} I"), *kernels, *blocks],
        [
            *(Row(label, _number(m.value, ".4f"), _random(m), _number(m.z, "+.1f")) for label, m in compared),
            Row("small-worldness", _number(one.small_worldness, ".4f"), "1"),
            Row("communities", _listed(one.communities)),
            Row("strong components", _listed(one.components)),
            Row("neurons no observation reaches", str(one.unreached)),
            Row("neurons without path to an action", str(one.without_effect)),
        ],
        [
            *_degree_rows("in-degree", one.in_degree),
            *_degree_rows("out-degree", one.out_degree),
            Row("balance (E - I) / (E + I)", f"{_number(one.balance, '+.3f')} ± {_number(one.balance_std, '.3f')}"),
            *actions,
        ],
        [
            Row("entropy of probabilities", f"{certainty.entropy:.3f} bits"),
            Row("saturated probabilities", f"{100 * certainty.saturated:.1f} %"),
        ],
    ]


def _degree_rows(label: str, degrees: Degrees) -> list[Row]:
    return [
        Row(label, f"{degrees.mean:.1f} ± {degrees.std:.2f}", f"independent: ± {degrees.independent_std:.2f}"),
        Row(f"entropy of {label}", f"{degrees.entropy:.2f} bits"),
    ]


def _of_one(one: Statistics) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=f"Connectome of generation {one.generation}", title_justify="left")
    table.add_column("")
    for name in ("value", f"{one.random_graphs} random graphs", "z"):
        table.add_column(name, justify="right", no_wrap=True)
    for section in statistics_rows(one):
        for row in section:
            table.add_row(*row)
        table.add_section()
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
