"""Declares and walks the fields of configurations."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from typing import Any

MISSING: Any = "???"
"""OmegaConf's mark of a value that has to be given."""

PUBLISHED = "published"
"""The paper (arXiv 2305.17650) or its code."""
MEASURED = "measured"
"""A figure in docs/."""
OWN = "own"
"""A decision of this software."""


def option(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    choices: Sequence[str] | Callable[[], Sequence[str]] = (),
    source: str = "",
) -> Any:
    """Returns a dataclass field that carries its documentation and its range.

    Args:
        default: Default value; `dict` for a mapping that is empty by default.
        doc: What the key means, for the reference.
        unit: Unit of the value; empty for pure numbers.
        low: Smallest allowed value.
        high: Largest allowed value.
        above: Value that it must exceed.
        below: Value that it must stay below.
        choices: Allowed values of a name, or a function that returns them.
        source: Source of the default; empty if it has none.
    """
    allowed = choices if callable(choices) else lambda: choices
    metadata = dict(doc=doc, unit=unit, low=low, high=high, above=above, below=below, choices=allowed, source=source)
    return (
        field(default_factory=dict, metadata=metadata) if default is dict else field(default=default, metadata=metadata)
    )


published = functools.partial(option, source=PUBLISHED)
"""`option` whose default is that of the paper or its code."""

own = functools.partial(option, source=OWN)
"""`option` whose default is a decision of this software."""


def walk(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field]]:
    """Yields `(full key, value, dataclass field)` for every leaf of a configuration."""
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            yield from walk(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", value, f


TEXT = ("str", "str | None")
"""Types of keys that hold text; annotations are strings here."""
