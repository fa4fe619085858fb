"""Reports of statistics: the format statistics, and tables for the terminal and the page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.table import Table

from evoconn_cli.export.analysis.statistics import Degrees, Measure, Statistics
from evoconn_cli.export.connectome import Connectome, ExportSource
from evoconn_cli.export.text_files import write_json, write_rows
from evoconn_cli.export.units import LAYERS
from evoconn_cli.output import finite_json

_MEASURES = {
    "reciprocity": "reciprocity",
    "clustering": "clustering",
    "path_length": "path length",
    "modularity": "modularity",
}


class Statistic(NamedTuple):
    """One statistic as text."""

    label: str
    value: str
    random: str = ""  # value in random graphs
    z: str = ""


def write_statistics(source: ExportSource, out: Path) -> None:
    """Writes the statistics as csv if `out` ends with it, else as JSON with the provenance.

    The csv has one line per number, `generation,statistic,value`; the parts of a name are separated by dots.
    """
    facts: dict[str, Any] = (
        as_json(source.statistics[0])
        if len(source.connectomes) == 1
        else evolution_as_json(source.connectomes, source.statistics)
    )
    if out.suffix.lower() != ".csv":
        write_json(out, {"provenance": source.provenance, **facts}, ascii_only=True)
        return
    rows = (
        (step["generation"], name, value)
        for step in facts.get("steps", [facts])
        for name, value in _numbers(step)
        if name not in ("generation", "policy")
    )
    write_rows(out, ("generation", "statistic", "value"), rows)


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the numbers in a JSON value with their names, without undefined ones."""
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _numbers(entry, f"{name}.{key}" if name else str(key))
    elif value is not None:
        yield name, value


def as_json(statistics: Statistics) -> dict[str, Any]:
    """Returns the statistics as JSON values: measures with their `z`, undefined numbers as null."""
    facts = dataclasses.asdict(statistics)
    for name in _MEASURES:
        facts[name]["z"] = getattr(statistics, name).z
    return finite_json(facts)


def evolution_as_json(connectomes: Sequence[Connectome], statistics: Sequence[Statistics]) -> dict[str, Any]:
    """Returns the statistics of several steps as JSON values, with the changes between steps.

    Args:
        connectomes: Connectomes by generation.
        statistics: Statistics of each connectome.
    """
    changed = [None, *changed_connections(connectomes)]
    agreement = agreement_with_last(connectomes)
    return {
        "steps": [
            {**as_json(one), "changed_since_step_before": before, "agreement_with_last_step": last}
            for one, before, last in zip(statistics, changed, agreement, strict=True)
        ]
    }


def changed_connections(connectomes: Sequence[Connectome]) -> list[dict[str, float]]:
    """Returns by layer, for every step but the first, the share of connections that differ from the step before."""
    return [
        {name: float((after.layers[name] != before.layers[name]).mean()) for name in after.layers}
        for before, after in zip(connectomes[:-1], connectomes[1:], strict=True)
    ]


def agreement_with_last(connectomes: Sequence[Connectome]) -> list[dict[str, float]]:
    """Returns by layer, for every step, the share of connections that equal those of the last step."""
    last = connectomes[-1].layers
    return [{name: float((one.layers[name] == last[name]).mean()) for name in last} for one in connectomes]


def share_excitatory(statistics: Statistics) -> np.ndarray:
    """Returns `[A]` the excitatory share of the connections onto each action; NaN for an action without any."""
    counts = np.array([[action["E"], action["I"]] for action in statistics.onto_actions], float)
    total = counts.sum(axis=1)
    return counts[:, 0] / np.where(total > 0, total, np.nan)


def statistics_table(statistics: Sequence[Statistics]) -> Table:
    """Returns a table with one row per statistic, or with one row per connectome if there are several."""
    return _of_one(statistics[0]) if len(statistics) == 1 else _of_several(statistics)


def statistics_rows(one: Statistics) -> list[list[Statistic]]:
    """Returns the statistics of a connectome as rows, in sections."""
    sizes, certainty = one.sizes, one.certainty["all"]
    layers = [
        Statistic(f"{layer} connections", f"{sizes[f'{layer}_connections']:,}, density {one.density[layer]:.3f}")
        for layer in LAYERS
    ]
    blocks = [Statistic(f"density {name}", f"{density:.3f}") for name, density in one.density.items() if "->" in name]
    compared: list[tuple[str, Measure]] = [(label, getattr(one, name)) for name, label in _MEASURES.items()]
    actions = [
        Statistic(f"onto action {action}", f"{counts['E']} E, {counts['I']} I")
        for action, counts in enumerate(one.onto_actions)
    ]
    return [
        [Statistic("neurons", f"{sizes['excitatory']} E, {sizes['inhibitory']} I"), *layers, *blocks],
        [
            *(Statistic(label, _number(m.value, ".4f"), _random(m), _number(m.z, "+.1f")) for label, m in compared),
            Statistic("small-worldness", _number(one.small_worldness, ".4f"), "1"),
            Statistic("communities", _listed(one.communities)),
            Statistic("strong components", _listed(one.components)),
            Statistic("neurons no observation reaches", str(one.unreached)),
            Statistic("neurons without path to an action", str(one.without_effect)),
        ],
        [
            *_degree_rows("in-degree", one.in_degree),
            *_degree_rows("out-degree", one.out_degree),
            Statistic(
                "balance (E - I) / (E + I)", f"{_number(one.balance, '+.3f')} ± {_number(one.balance_std, '.3f')}"
            ),
            *actions,
        ],
        [
            Statistic("entropy of probabilities", f"{certainty.entropy:.3f} bits"),
            Statistic("saturated probabilities", f"{100 * certainty.saturated:.1f} %"),
        ],
    ]


def _degree_rows(label: str, degrees: Degrees) -> list[Statistic]:
    return [
        Statistic(label, f"{degrees.mean:.1f} ± {degrees.std:.2f}", f"independent: ± {degrees.independent_std:.2f}"),
        Statistic(f"entropy of {label}", f"{degrees.entropy:.2f} bits"),
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
    """Returns the first sizes, and the number of further ones."""
    shown = ", ".join(map(str, sizes[:6]))
    return shown if len(sizes) <= 6 else f"{shown} and {len(sizes) - 6} more"
