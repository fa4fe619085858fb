"""Loads, checks and writes configurations.

A configuration is resolved in one pass, from top to bottom of this file: choose task, strategy and network, drop what
is for others, check the keys, fill in the defaults, check the values.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evoconn_cli.config.fields import walk
from evoconn_cli.config.numbers import as_float32, float32_problem, read_number
from evoconn_cli.config.reading import Overrides, read_base, read_overrides, read_text, read_yaml
from evoconn_cli.config.registry import Entry, Kind, entries, find, is_path, names, pairs
from evoconn_cli.config.schema import CHOSEN_BY_NAME, RunConfig, is_text
from evoconn_cli.errors import ConfigError, first_line, near_names, unknown_name

Section = TypeVar("Section")

_LARGEST_INT = 2**31 - 1
"""Largest whole number of a key that has no bound of its own: JAX counts in 32 bits."""


def load_config(source: str | None = None, overrides: Overrides = ()) -> RunConfig:
    """Returns the checked configuration of a run.

    Args:
        source: Name of a preset, or path of a YAML file; None for the defaults.
        overrides: Entries such as `algo.population=1024`, the last one of a key wins; or values by key.

    Raises:
        ConfigError: An unreadable file, an unknown key or name, a wrong type, a value out of range.
    """
    file = read_base(source)
    typed = read_overrides(overrides, is_text)
    try:
        return resolve_config(file, typed)
    except ConfigError as error:
        if source is not None and is_path(source) and _is_wrong_with(file, error):
            raise ConfigError(f"{source}: {error}") from None
        raise


def override_config(config: RunConfig, overrides: Overrides) -> RunConfig:
    """Returns `config` with some keys replaced, checked again.

    Raises:
        ConfigError: As for `load_config`, or another strategy or network.
    """
    changes = read_overrides(overrides, is_text)
    for section in ("algo", "network"):
        chosen, wanted = getattr(config, section).name, _named(changes, section)
        if wanted is not None and wanted.name != chosen:
            raise ConfigError(
                f"{section}.name={wanted.name}: the run has {section}.name={chosen}, and with another it would be "
                "another run. Start that with evoconn train."
            )
    return resolve_config(OmegaConf.create(dataclasses.asdict(config)), changes)


def read_config(path: Path) -> RunConfig:
    """Returns the configuration that `write_config` wrote to `path`.

    Raises:
        ConfigError: As for `load_config`.
    """
    return resolve_config(read_yaml(path))


def config_from_yaml(text: str) -> RunConfig:
    """Returns the configuration that `config_to_yaml` wrote.

    Raises:
        ConfigError: As for `load_config`.
    """
    return resolve_config(read_text(text, "the configuration"))


def config_to_yaml(config: RunConfig) -> str:
    """Returns every key of `config` as YAML."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def write_config(config: RunConfig, path: Path) -> None:
    """Writes every key of `config` to the YAML file `path`."""
    path.write_text(config_to_yaml(config), encoding="utf-8")


def resolve_config(*parts: DictConfig) -> RunConfig:
    """Returns the checked configuration that `parts`, such as a file and overrides, make of the defaults.

    Args:
        parts: Values, as text or of their type; the last one of a key wins.

    Raises:
        ConfigError: An unknown key or name, a wrong type, a value out of range.
    """
    chosen = _choose(_merge(*parts))
    given = _merge(*(_without_sections(part, chosen) for part in parts))
    defaults = RunConfig(**{section: entry.default_config() for section, entry in chosen.items()})
    check_keys(given, defaults, every=[name for name, _, _ in walk(defaults)], others=_keys_of_others(chosen))
    if "task" not in chosen:
        raise ConfigError(f"no task is given. Add `--task NAME`, one of: {', '.join(names('task', hidden=False))}.")
    config = fill(defaults, given)
    check_values(config)
    if config.algo.population * config.task.episode_length >= 2**31:
        raise ConfigError(
            f"algo.population={config.algo.population} times task.episode_length={config.task.episode_length}: the "
            f"steps of a generation are counted in 32 bits and must be fewer than {2**31}. Lower either."
        )
    config.algo.check(config.network.name)
    config.network.check()
    config.rollout.check()
    return config


def _is_wrong_with(file: DictConfig, error: ConfigError) -> bool:
    """Returns whether a file alone gives the same error."""
    try:
        resolve_config(file)
    except ConfigError as of_file:
        return str(of_file) == str(error)
    return False


def _merge(*parts: DictConfig) -> DictConfig:
    try:
        given = OmegaConf.merge(*parts)
    except (OmegaConfBaseException, TypeError) as error:  # TypeError: a list where a section is expected
        raise ConfigError(f"the configuration cannot be merged: {first_line(error)}.") from None
    assert isinstance(given, DictConfig)
    return given


def _named(given: DictConfig, section: str) -> Entry | None:
    """Returns the task, strategy or network that a section names, None if it names none.

    Raises:
        ConfigError: An unknown name.
    """
    node = given.get(section)
    name = node.get("name") if isinstance(node, DictConfig) else None
    return None if name is None else find(CHOSEN_BY_NAME[section], name)


def _choose(given: DictConfig) -> dict[str, Entry]:
    """Returns the task (if one is named), strategy and network by section; of the latter, one follows from the other.

    Raises:
        ConfigError: An unknown name, or two that do not go together.
    """
    task, algo, network = (_named(given, section) for section in ("task", "algo", "network"))
    if algo is None:
        algo = _first("strategy", network)
    if network is None:
        network = _first("network", algo)
    if network.name not in pairs()[algo.name]:
        known = "; ".join(f"{name} with {', '.join(networks)}" for name, networks in pairs().items())
        raise ConfigError(
            f"the strategy {algo.name!r} cannot search the network {network.name!r}. What goes together: {known}."
        )
    return {**({"task": task} if task is not None else {}), "algo": algo, "network": network}


def _first(kind: Kind, other: Entry | None) -> Entry:
    """Returns the first strategy or network that goes with the `other` one, if need be of an installed plug-in."""
    for name in (*names(kind, installed=False), *names(kind)):
        if other is None or find(kind, name).candidates == other.candidates:
            return find(kind, name)
    assert other is not None
    raise ConfigError(f"no {kind} goes with the {other.kind} {other.name!r}. Add the plug-in that has one: --plugin.")


def _without_sections(part: DictConfig, chosen: Mapping[str, Entry]) -> DictConfig:
    """Returns a part with the keys of `algo.ec:` and the like moved into `algo` if that is chosen, else dropped.

    Raises:
        ConfigError: An unknown key in one of them, chosen or not.
    """
    part = _merge(part)  # a copy
    for section, entry in chosen.items():
        node = part.get(section)
        for one in entries(entry.kind) if isinstance(node, DictConfig) else ():
            if one.name not in node:
                continue
            own, where = node.pop(one.name), f"{section}.{one.name}"
            if not isinstance(own, DictConfig):
                raise ConfigError(f"{where}: expected a section with keys that hold for {one.name} alone, got {own!r}.")
            check_keys(own, one.default_config(), f"{where}.")
            if "name" in own:
                raise ConfigError(f"{where}.name: the section is for {one.name} already. Leave the name out.")
            if one is entry:
                node.merge_with(own)
    return part


def _keys_of_others(chosen: Mapping[str, Entry]) -> dict[str, str]:
    """Returns the keys of tasks, strategies and networks that are not chosen, with a sentence that names those."""
    hints = {}
    for section, entry in chosen.items():
        keys = {e.name: [key for key, _, _ in walk(e.default_config(), f"{section}.")] for e in entries(entry.kind)}
        for key in {key for several in keys.values() for key in several}.difference(keys[entry.name]):
            owners = ", ".join(name for name, several in keys.items() if key in several)
            hints[key] = f"it is a key of {owners}, and the {entry.kind} is {entry.name}"
    return hints


def check_keys(
    given: DictConfig,
    defaults: Any,
    prefix: str = "",
    every: Sequence[str] = (),
    *,
    others: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Checks that `defaults`, a dataclass, has every key that is given.

    Args:
        given: Values by key.
        defaults: Instance of the dataclass.
        prefix: Prefix of the keys, such as `launch.`.
        every: Keys elsewhere that may be meant.
        others: Keys that only something else has, with a sentence about that.

    Raises:
        ConfigError: An unknown key, with the nearest one, or a value where a section is expected.
    """
    known = {f.name: getattr(defaults, f.name) for f in dataclasses.fields(defaults)}
    for key in given:
        full_key = f"{prefix}{key}"
        if key not in known:
            if full_key in others:
                raise ConfigError(f"unknown key {full_key!r}: {others[full_key]}.")
            if "." in str(key):
                section, *rest = str(key).split(".")
                raise ConfigError(
                    f"unknown key {full_key!r}: in a file a dot makes no section. Write {section}: "
                    f"{'{'}{': {'.join(rest)}: ...{'}' * len(rest)}."
                )
            candidates = [*(f"{prefix}{name}" for name in known), *every]
            near = near_names(str(key), {name.rpartition(".")[2]: name for name in reversed(candidates)})
            near = near or difflib.get_close_matches(full_key, candidates, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known here: {', '.join(known)}."
            raise ConfigError(f"unknown key {full_key!r}.{hint}")
        if dataclasses.is_dataclass(known[key]) or isinstance(known[key], dict):
            child = given._get_node(key)
            if not isinstance(child, DictConfig) or child._is_none():
                raise ConfigError(f"{full_key}: expected a section with keys, got {given.get(key)!r}.")
            if dataclasses.is_dataclass(known[key]):
                check_keys(child, known[key], f"{full_key}.", every, others=others)


def fill(defaults: Section, given: DictConfig, prefix: str = "") -> Section:
    """Returns the dataclass `defaults` with the values that are given in place of its own, in their types.

    Args:
        defaults: Instance of the dataclass.
        given: Values by key; `check_keys` has checked the keys.
        prefix: Prefix of the keys, for messages.

    Raises:
        ConfigError: A value of another type.
    """
    given = _with_numbers(given, defaults, prefix)
    try:
        filled: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(defaults), given))
    except OmegaConfBaseException as error:
        problem = first_line(error)
        key = getattr(error, "full_key", None)
        if "is not Optional" in problem or "Incompatible value 'None'" in problem:
            problem = "must not be null"
        elif "is not a valid bool" in problem:
            raise ConfigError(f"{prefix}{key}={OmegaConf.select(given, key or '')}: must be true or false.") from None
        raise ConfigError(f"{prefix}{key or '?'}: {problem}.") from None
    return filled


def _with_numbers(given: DictConfig, defaults: Any, prefix: str) -> DictConfig:
    """Returns `given` with numbers in place of their texts.

    OmegaConf would read them as Python does: with `1_000` and Arabic digits, and without `0o17`.
    """
    given = _merge(given)  # a copy
    for key, default, f in walk(defaults):
        kind = str(f.type).removesuffix(" | None")
        value = OmegaConf.select(given, key) if kind in ("int", "float") else None
        number = read_number(value) if isinstance(value, str) else value
        if isinstance(value, str) and number is None and value.lower() not in ("nan", "inf", "-inf"):
            form, example = ("a whole number", 1000) if kind == "int" else ("a number", "0.1 or 1e-3")
            raise ConfigError(
                f"{prefix}{key}={value}: must be {form}, such as {example if default is None else default}."
            )
        if kind == "int" and isinstance(number, float):
            hint = f": write {int(number)}" if number.is_integer() else ""
            raise ConfigError(f"{prefix}{key}={value}: must be a whole number{hint}.")
        if kind == "float" and isinstance(number, int) and abs(number) > sys.float_info.max:
            raise ConfigError(f"{prefix}{key}: must be a finite number.")
        if isinstance(value, str) and number is not None:
            OmegaConf.update(given, key, number)
    return given


def check_values(config: Any, prefix: str = "") -> None:
    """Checks the choices and ranges that the fields of a dataclass carry.

    Args:
        config: Instance of it.
        prefix: Prefix of the keys, for messages.

    Raises:
        ConfigError: The first value that is not allowed.
    """
    for key, value, f in walk(config, prefix):
        allowed = f.metadata
        if value is None or not allowed:
            continue
        if (choices := allowed["choices"]()) and value not in choices:
            raise unknown_name(f"value of {key}:", value, choices)
        if isinstance(value, float) and (problem := float32_problem(value)):
            raise ConfigError(f"{key}={value}: {problem}.")
        if isinstance(value, (int, float)):
            _check_range(key, value, allowed)
        if isinstance(value, int) and value > _LARGEST_INT and allowed["high"] == math.inf:
            raise ConfigError(f"{key}={value}: must be at most {_LARGEST_INT}.")


def _check_range(key: str, value: float, allowed: Mapping[str, Any]) -> None:
    """Checks the bounds of a number, and of a float also as float32 holds it."""
    held = as_float32(value) if isinstance(value, float) else value
    bounds = (
        (lambda x: x >= allowed["low"], f"at least {allowed['low']}"),
        (lambda x: x <= allowed["high"], f"at most {allowed['high']}"),
        (lambda x: x > allowed["above"], f"more than {allowed['above']}"),
        (lambda x: x < allowed["below"], f"less than {allowed['below']}"),
    )
    for holds, text in bounds:
        if not holds(value):
            raise ConfigError(f"{key}={value}: must be {text}.")
        if not holds(held):
            raise ConfigError(f"{key}={value}: must be {text}, and is {held} in float32, which is computed with.")
