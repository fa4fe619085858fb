"""The section `search` of a grid file: a hyper-parameter search, and the space that it searches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evoconn_cli.config.fields import option
from evoconn_cli.config.launch import read_section
from evoconn_cli.config.reading import read_overrides
from evoconn_cli.config.schema import fields_of
from evoconn_cli.errors import ConfigError, unknown_name

SAMPLERS = ("tpe", "random", "cmaes", "grid")
PRUNERS = ("none", "median", "successive_halving", "hyperband")
DEFAULT_TRIALS = 20


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, whole ones if both are; uniform in the number, or in its logarithm."""

    low: float
    high: float
    scale: str = "linear"

    @property
    def is_whole(self) -> bool:
        """Whether its numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', whole' * self.is_whole}{', log' * (self.scale == 'log')}"


@dataclass(frozen=True)
class Search:
    """A hyper-parameter search with Optuna: each trial is the cells of all seeds with values from `space`."""

    sampler: str = option("tpe", "how trials are chosen", choices=SAMPLERS)
    pruner: str = option("none", "which trials are ended early, by their evaluation fitness", choices=PRUNERS)
    trials: int | None = option(
        None, f"trials; null: {DEFAULT_TRIALS}, or all combinations with sampler grid", low=1, high=100_000
    )
    seed: int = option(0, "random seed of the sampler", low=0)
    parallel: int = option(1, "trials that run at once, over all launchers", low=1)
    report_every: int | None = option(
        None,
        "steps between the comparisons of the pruner; null: a tenth of the most that a run can take",
        unit="environment steps",
        low=1,
    )
    space: dict[str, Any] = option(dict, "for each key a list of values, or a range")

    @property
    def num_trials(self) -> int:
        """Number of trials; the grid sampler has none beyond all combinations."""
        combinations = math.prod(len(choice) for choice in self.space.values() if isinstance(choice, list))
        if self.sampler != "grid":
            return self.trials or DEFAULT_TRIALS
        return min(self.trials or combinations, combinations)


def read_search(given: Any, overrides: Sequence[str]) -> Search | None:
    """Returns the checked section `search`; None if the file has none.

    Args:
        given: Section of the file.
        overrides: Entries `search.KEY=VALUE`.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type or is not allowed.
    """
    if given is None:
        if overrides:
            raise ConfigError(f"{overrides[0]}: the grid file has no section search.")
        return None
    if isinstance(given, Mapping) and (old := sorted({"samples", "draw"} & {str(key) for key in given})):
        raise ConfigError(
            f"search.{old[0]}: this is a random search of evoconn before the search with Optuna, whose samples cannot "
            "be drawn any more. Continue it with the evoconn that began it, or begin a new one in another --grid-dir: "
            "write sampler: random, trials: NUMBER and space: in place of samples: and draw:."
        )
    search = read_section(given, Search(), "search")
    search = read_section(read_overrides(overrides, lambda key: False).get("search"), search, "search")
    space = {key: _read_choice(key, choice) for key, choice in flat_keys(search.space, "search.space").items()}
    if not space:
        raise ConfigError("search: `space` is missing: for each key a list, or a range such as {low: 0.1, high: 1.0}.")
    ranges = [key for key, choice in space.items() if isinstance(choice, Range)]
    if search.sampler == "grid" and ranges:
        raise ConfigError(f"search.space.{ranges[0]}: the sampler grid needs lists of values, and this is a range.")
    if search.sampler == "cmaes" and not ranges:
        raise ConfigError("search.sampler=cmaes: it needs a range in `space`, and there are only lists. Choose tpe.")
    return replace(search, space=space)


_SCALES = ("linear", "log")


def _read_choice(key: str, given: Any) -> list[Any] | Range:
    """Returns the values that a key may have: a list, or a range such as `{low: 1e-4, high: 0.1, scale: log}`."""
    where = f"search.space.{key}"
    if not isinstance(given, dict):
        return read_list(given, where)
    for name in given:
        if name not in ("low", "high", "scale"):
            raise unknown_name(f"key of {where}:", str(name), ("low", "high", "scale"))
    low, high, scale = given.get("low", math.nan), given.get("high", math.nan), given.get("scale", "linear")
    if not is_number(low) or not is_number(high):
        raise ConfigError(f"{where}: a range needs the numbers `low` and `high`, got {given!r}.")
    if scale not in _SCALES:
        raise unknown_name(f"value of {where}.scale:", str(scale), _SCALES)
    if low >= high or (scale == "log" and low <= 0):
        raise ConfigError(f"{where}: low={low} must be less than high={high}{', and more than 0' * (scale == 'log')}.")
    return Range(float(low), float(high), scale) if _takes_fractions(key) else Range(low, high, scale)


def _takes_fractions(key: str) -> bool:
    """Returns whether a key of a run is a number that need not be whole, even if both bounds are."""
    return any("float" in str(f.type) for f in fields_of(key))


def read_keys(given: Any, where: str) -> dict[str, Any]:
    """Returns a section of a grid file that may not be empty.

    Raises:
        ConfigError: It is no section, or empty.
    """
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"{where}: expected a section with `key: value` lines, got {given!r}.")
    return {str(key): value for key, value in given.items()}


def read_list(given: Any, where: str) -> list[Any]:
    """Returns a list of distinct plain values.

    Raises:
        ConfigError: It is something else.
    """
    if not isinstance(given, list) or not given:
        raise ConfigError(f"{where}: expected a list such as [a, b], got {given!r}.")
    for value in given:
        check_plain(value, where)
        if given.count(value) > 1:
            raise ConfigError(f"{where}: {value!r} is given twice.")
    return given


def flat_keys(given: Any, where: str) -> dict[str, Any]:
    """Returns `{full key: value}` of a section with keys such as `algo.eps: 1` or nested ones; ranges stay whole.

    Raises:
        ConfigError: It is no section, or a key is given twice.
    """
    flat: dict[str, Any] = {}
    for key, value in ({} if given in (None, {}) else read_keys(given, where)).items():
        is_section = isinstance(value, dict) and not {"low", "high"} & value.keys()
        nested = flat_keys(value, f"{where}.{key}") if is_section else {}
        for full_key, x in {f"{key}.{k}": x for k, x in nested.items()}.items() if is_section else [(key, value)]:
            if full_key in flat:
                raise ConfigError(f"{where}: {full_key} is given twice.")
            flat[full_key] = x
    return flat


def check_plain(value: Any, where: str) -> None:
    """Checks that a value is text, a number, true, false or null.

    Raises:
        ConfigError: It is something else.
    """
    if value is not None and not isinstance(value, (str, int, float)):
        raise ConfigError(f"{where}: {value!r} is not a plain value.")


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
