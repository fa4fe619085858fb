"""The page of all configuration keys, from the schema."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
from typing import Any

from evoconn_cli.config.fields import MISSING
from evoconn_cli.config.launch import LaunchConfig, SlurmConfig
from evoconn_cli.config.registry import entries
from evoconn_cli.config.schema import CHOSEN_BY_NAME, AlgoConfig, NetworkConfig, RunConfig, SpikingConfig
from evoconn_cli.config.search import Search
from tools.reference.markdown import NOTE, code, prose, table

INTRODUCTION = """# Configuration

Every key of a run. Give it to [`evoconn train`](commands/train.md) as `KEY=VALUE`, or write it into a YAML file for
`--config`:

```
evoconn train --task hopper algo.population=1024 network.num_neurons=128
```

Values come from, in this order, the last one wins: the defaults below, the preset or file of `--config`, the options
such as `--population`, the `KEY=VALUE` entries. `config.yaml` in a run directory has every key of that run. A key that
does not exist is an error that names the nearest one. Values whose type is text are taken as they are written: `007`,
`no` and `1e5` need no quotes. Numbers are those of YAML 1.2, here, in grid files and in the options of all commands:
`010` is ten, `0x10` sixteen, and `1_000` or `1:30` is an error.

A file may have keys that hold for one strategy or one network alone:

```
algo:
  population: 512
  ec:
    learning_rate: 0.1
```

*Source* says where a default comes from: **published**, the paper (arXiv 2305.17650) and its code; **measured**, from
[figures on these pages](training.md#how-fitness-is-measured); **own**, a decision of this software. With
[`--config paper`](training.md#presets) the measured ones are as published, too. `null` means that nothing is given: the
meaning says what happens then.
"""

TITLES = ("key", "type", "default", "unit", "range", "source", "meaning")

ES_NOTE = """Published sigma and step size of `es`, which hold where the keys are null:

"""


GRID_FILES = """## Grid files

Keys of the sections of a [grid file](grids.md). Those of `launch` and `search` can be given to
[`evoconn launch-grid`](commands/launch-grid.md) as `launch.KEY=VALUE` and `search.KEY=VALUE`, too.
"""


def configuration_page() -> str:
    """Returns the text of the page."""
    config = RunConfig()
    sections = [_section("", RunConfig, "The run")]
    for f in dataclasses.fields(config):
        part = type(getattr(config, f.name))
        if f.name == "algo":
            sections += [*_family("algo", AlgoConfig), _published_es()]
        elif f.name == "network":
            sections += _family("network", NetworkConfig, SpikingConfig)
        elif dataclasses.is_dataclass(part):
            sections.append(_section(f"{f.name}.", part, f.name))
    grid_sections = []
    for prefix, part in (("launch", LaunchConfig), ("launch.slurm", SlurmConfig), ("search", Search)):
        grid_sections.append(_section(f"{prefix}.", part, prefix, level=3))
    return f"{NOTE}{INTRODUCTION}\n" + "\n".join([*sections, GRID_FILES, *grid_sections])


def _published_es() -> str:
    found = (
        (entry.name, entry.published["es"])
        for entry in entries("network")
        if "es" in entry.published and not entry.plugin
    )
    rows = [(code(name), str(es["sigma"]), str(es["learning_rate"])) for name, es in found]
    return ES_NOTE + table(("network", "`algo.sigma`", "`algo.learning_rate`"), rows)


def _family(section: str, base: type, *between: type) -> list[str]:
    """Returns the keys that all entries of a family have, and then those of each alone or with another default."""
    own = [entry for entry in entries(CHOSEN_BY_NAME[section]) if entry.plugin is None]
    members = {entry: type(entry.default_config()) for entry in own}
    parts = [_section(f"{section}.", base, section)]
    for shared in between:
        users = ", ".join(code(entry.name) for entry, member in members.items() if issubclass(member, shared))
        parts.append(_section(f"{section}.", shared, users, level=3, bases=(base,)))
    for entry, member in members.items():
        known = tuple(cls for cls in (base, *between) if issubclass(member, cls))
        title = f"{section}.name={entry.name}"
        parts.append(_section(f"{section}.", member, title, level=3, bases=known, summary=entry.summary))
    return parts


def _section(
    prefix: str, config: type, title: str, *, level: int = 2, bases: tuple[type, ...] = (), summary: str | None = None
) -> str:
    """Returns the keys that a section has beside those of `bases`, or with another default than there."""
    shared = {f.name: f.default for base in bases for f in dataclasses.fields(base)}
    fields = [
        f
        for f in dataclasses.fields(config)
        if "doc" in f.metadata
        and not (f.name == "name" and issubclass(config, (AlgoConfig, NetworkConfig)))
        and not (f.name in shared and shared[f.name] == f.default)
    ]
    heading = f"{'#' * level} {title}\n\n{summary or config.__doc__}"
    if not fields:
        return f"{heading} No keys of its own.\n"
    types = typing.get_type_hints(config)
    rows = [
        (
            code(prefix + f.name),
            prose(_type(types[f.name])),
            _default(f),
            prose(f.metadata["unit"]),
            _range(f.metadata),
            f.metadata["source"],
            prose(f.metadata["doc"]),
        )
        for f in fields
    ]
    return f"{heading}\n\n{table(TITLES, rows)}"


def _type(hint: Any) -> str:
    if typing.get_origin(hint) is dict:
        return "section"
    names = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null"}
    return " or ".join(_names(hint, names))


def _names(hint: Any, names: dict[Any, str]) -> Iterator[str]:
    for part in typing.get_args(hint) or (hint,):
        yield names[part]


def _default(f: dataclasses.Field) -> str:
    value = f.default
    if value == MISSING:
        return "has to be given"
    if value == "" or f.default_factory is dict:
        return "empty"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return value if isinstance(value, str) else f"{value:g}"


def _range(allowed: Any) -> str:
    if choices := allowed["choices"]():
        return ", ".join(map(code, choices))
    low = f"≥ {allowed['low']:g}" if allowed["low"] > -math.inf else ""
    above = f"&gt; {allowed['above']:g}" if allowed["above"] > -math.inf else ""
    high = f"≤ {allowed['high']:,.0f}" if 1e4 <= allowed["high"] < math.inf else ""
    high = high or (f"≤ {allowed['high']:g}" if allowed["high"] < math.inf else "")
    below = f"&lt; {allowed['below']:g}" if allowed["below"] < math.inf else ""
    return ", ".join(filter(None, (low, above, high, below)))
