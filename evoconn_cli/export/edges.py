"""Converts the connections of a boolean network to a table, and back."""

from __future__ import annotations

import math
from typing import NoReturn

import numpy as np

from evoconn_cli.errors import EvoconnError
from evoconn_cli.export.connectome import Connectome
from evoconn_cli.export.units import LAYER_POPULATIONS, Table, unit_names, unit_signs, unit_types

EDGE_COLUMNS = {
    "layer": "input, recurrent or output",
    "pre": "name of the unit that sends",
    "post": "name of the unit that receives",
    "pre_index": "of the sending unit in its population, from 0",
    "post_index": "of the receiving unit in its population, from 0",
    "pre_type": "observation, excitatory or inhibitory",
    "sign": "+1 or -1, of the sending unit",
    "probability": "that evolution gave the connection",
    "weight": "sign times the gain of the layer; its unit, by layer, is with the constants",
}
REQUIRED_COLUMNS = ("layer", "pre", "post")
"""Columns that define the connections; if there are columns sign and weight, they must agree."""


def edge_table(connectome: Connectome) -> Table:
    """Returns one row per existing connection, ordered by layer, sending and receiving unit.

    Args:
        connectome: Connectome of a boolean network.

    Returns:
        The columns of `EDGE_COLUMNS`. Probabilities are the evolved ones, so those of a deterministic network are all
        above 0.5.
    """
    layers = [_layer_edges(connectome, name) for name in LAYER_POPULATIONS]
    return {column: np.concatenate([layer[column] for layer in layers]) for column in EDGE_COLUMNS}


def _layer_edges(connectome: Connectome, name: str) -> Table:
    layer, (pre_population, post_population) = connectome.layers[name], LAYER_POPULATIONS[name]
    pre, post = np.nonzero(layer)
    names, sign = unit_names(connectome), unit_signs(connectome)[pre_population][pre]
    return {
        "layer": np.full(len(pre), name),
        "pre": np.array(names[pre_population])[pre],
        "post": np.array(names[post_population])[post],
        "pre_index": pre.astype(np.int32),
        "post_index": post.astype(np.int32),
        "pre_type": unit_types(connectome)[pre_population][pre],
        "sign": sign,
        "probability": connectome.probs[name][pre, post],
        "weight": sign * getattr(connectome.gains, name),
    }


def layers_from_edges(table: Table, connectome: Connectome, source: str) -> dict[str, np.ndarray]:
    """Returns the layers that a table of connections describes, `[pre, post]` bool by name.

    Only `layer`, `pre` and `post` are required. Connections have no sign or weight of their own, so given ones must be
    those of the sending unit and the layer.

    Args:
        table: Columns of names as text; numbers as numbers or text.
        connectome: Connectome with the units of the table; its own connections are ignored.
        source: Name of the table, for messages; row 0 is its line 2, below the header.

    Raises:
        EvoconnError: A column is missing, a layer or unit is unknown, a connection occurs twice, or a sign or weight is
            wrong.
    """
    missing = [column for column in REQUIRED_COLUMNS if column not in table]
    if missing:
        raise EvoconnError(
            f"{source}: no column {' and no column '.join(missing)}. It needs {', '.join(REQUIRED_COLUMNS)}; it has "
            f"{', '.join(table) or 'none'}."
        )

    def fail(row: int, text: str) -> NoReturn:
        raise EvoconnError(f"{source}, line {row + 2}: {text}")

    names, signs, gains = unit_names(connectome), unit_signs(connectome), connectome.gains._asdict()
    numbers = {population: {name: i for i, name in enumerate(names[population])} for population in names}
    layers = {
        name: np.zeros((len(names[pre]), len(names[post])), bool) for name, (pre, post) in LAYER_POPULATIONS.items()
    }
    for row, (layer, *units) in enumerate(zip(*(table[column] for column in REQUIRED_COLUMNS), strict=True)):
        if layer not in layers:
            fail(row, f"unknown layer {str(layer)!r}. Known: {', '.join(layers)}.")
        found = []
        for unit, population in zip(units, LAYER_POPULATIONS[layer], strict=True):
            if unit not in numbers[population]:
                known = names[population]
                fail(row, f"{layer} has no unit {str(unit)!r} there. Known: {known[0]} to {known[-1]}.")
            found.append(numbers[population][unit])
        pre, post = found
        if layers[layer][pre, post]:
            fail(row, f"the connection {units[0]} -> {units[1]} is there twice. Delete one of them.")
        layers[layer][pre, post] = True
        sign = int(signs[LAYER_POPULATIONS[layer][0]][pre])
        for column, value in (("sign", sign), ("weight", sign * gains[layer])):
            if column in table and not _agrees(table[column][row], value):
                fail(
                    row,
                    f"{column} is {table[column][row]}, but {units[0]} -> {units[1]} has {value:.9g}: connections are "
                    "there or not, and have no strength or sign of their own. Put it back, or delete the line.",
                )
    return layers


def _agrees(given: object, value: float) -> bool:
    """Returns whether a sign or weight in a table is empty or equals `value` within the rounding of float32."""
    if given == "":
        return True
    try:
        return math.isclose(float(given), value, rel_tol=1e-6)  # type: ignore[arg-type]
    except ValueError:
        return False
