"""Names of observations and actions, from the tables in the documentation of Brax's environments."""

from __future__ import annotations

import inspect
import re
from collections import Counter

from evoconn_cli.config.names import BRAX_V1_TASKS
from evoconn_cli.tasks.brax_v1 import brax_v1_environment

_CORRECTED = {
    "halfcheetah": {0: "rootz"},
    "reacher": {
        **dict(enumerate(("cos(joint0)", "cos(joint1)", "sin(joint0)", "sin(joint1)"))),
        **{8 + index: f"fingertip - target {axis}" for index, axis in enumerate("xyz")},
    },
}
"""Names of observations that the table of Brax has wrong, or not at all, by task and number."""


def task_labels(task: str, observation_size: int, action_size: int) -> tuple[list[str], list[str]]:
    """Returns the names of observations and of actions; an empty list where the task does not name each of them.

    Velocities end with `vel.`; the parts of a joint with several axes, with the axis.
    """
    if task not in BRAX_V1_TASKS:
        return [], []
    tables: dict[str, list[list[str]]] = {"Observation": [], "Action": []}
    table: list[list[str]] = []
    for line in (inspect.getdoc(type(brax_v1_environment(task))) or "").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] == "Num":
            table = tables.get(cells[1], [])
        elif len(cells) == 7 and cells[0].isdecimal():
            table.append(cells)
    observations, actions = map(_names, tables.values())
    for number, name in _CORRECTED.get(task, {}).items():
        observations[number] = name
    return observations if len(observations) == observation_size else [], actions if len(actions) == action_size else []


def _names(rows: list[list[str]]) -> list[str]:
    """Returns the names in rows of number, words, two bounds, name in the configuration, joint and unit."""
    times = Counter((name, unit) for *_, name, _, unit in rows)
    names = []
    for _, words, _, _, name, _, unit in rows:
        axis = re.search(r"\b[wxyz](?=-)", words) if times[name, unit] > 1 else None
        short = name.split(" (")[0] + (f" {axis[0]}" if axis else "")
        names.append(f"{short} vel." if "velocity" in unit else short)
    numbers = {name: iter(range(1, count + 1)) for name, count in Counter(names).items() if count > 1}
    return [f"{name} {next(numbers[name])}" if name in numbers else name for name in names]
