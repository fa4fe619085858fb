"""Loads, merges, checks and writes configurations."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evoconn_cli.config.reading import as_float32, float32_problem, normalize, read_number, read_overrides, read_yaml
from evoconn_cli.config.registry import BRAX_V1_TASKS, PAIRS, config_dir, find_named, is_path
from evoconn_cli.config.schema import (
    ALGOS,
    NETWORKS,
    EcConfig,
    EsConfig,
    RunConfig,
    SpikingConfig,
    is_text,
    num_evaluation_copies,
    num_members,
    walk,
)
from evoconn_cli.errors import ConfigError, first_line, near_names, unknown_name

Section = TypeVar("Section")

_MOST = 2**31 - 1
"""Largest whole number of a key that has no bound of its own: JAX counts in 32 bits."""


def check_keys(
    given: DictConfig,
    defaults: Any,
    prefix: str = "",
    every: Sequence[str] = (),
    others: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Checks that `defaults`, a dataclass, has every key that is given.

    Args:
        given: what stands in the file.
        defaults: an instance of the dataclass it is for.
        prefix: of the keys, such as `launch.`.
        every: keys elsewhere that may be meant.
        others: keys that only something else has, and what that is, in words.

    Raises:
        ConfigError: an unknown key, with the nearest one, or a value where a section is expected.
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
            names = [*(f"{prefix}{name}" for name in known), *every]
            near = near_names(str(key), {name.rpartition(".")[2]: name for name in reversed(names)})
            near = near or difflib.get_close_matches(full_key, names, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known here: {', '.join(known)}."
            raise ConfigError(f"unknown key {full_key!r}.{hint}")
        if dataclasses.is_dataclass(known[key]) or isinstance(known[key], dict):
            child = given._get_node(key)
            if not isinstance(child, DictConfig) or child._is_none():
                raise ConfigError(f"{full_key}: expected a section with keys, got {given.get(key)!r}.")
            if dataclasses.is_dataclass(known[key]):
                check_keys(child, known[key], f"{full_key}.", every, others)


def fill(defaults: Section, given: DictConfig, prefix: str = "") -> Section:
    """Returns the dataclass `defaults` with the values that are given in place of its own.

    Args:
        defaults: an instance.
        given: keys that `check_keys` has checked.
        prefix: of the keys, for messages.

    Raises:
        ConfigError: a value of another type.
    """
    _check_numbers(given, defaults, prefix)
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


def _check_numbers(given: DictConfig, defaults: Any, prefix: str) -> None:
    """Refuses what OmegaConf would take for a number, such as `1_000` or Arabic digits, and whole numbers as `1e4`."""
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


def check_values(config: Any, prefix: str = "") -> None:
    """Checks the choices and ranges that the fields of a dataclass carry.

    Args:
        config: an instance of it.
        prefix: of the keys, for messages.

    Raises:
        ConfigError: the first value that is not allowed.
    """
    for key, value, f in walk(config, prefix):
        allowed = f.metadata
        if value is None or not allowed:
            continue
        if allowed["choices"] and value not in allowed["choices"]:
            if key == "task.name":
                raise unknown_name("task", value, allowed["choices"], listed=BRAX_V1_TASKS)
            raise unknown_name(f"value of {key}:", value, allowed["choices"])
        if isinstance(value, float) and (problem := float32_problem(value)):
            raise ConfigError(f"{key}={value}: {problem}.")
        if isinstance(value, (int, float)):
            _check_range(key, value, allowed)
        if isinstance(value, int) and value > _MOST and allowed["high"] == math.inf:
            raise ConfigError(f"{key}={value}: must be at most {_MOST}.")


def _check_range(key: str, value: float, allowed: Any) -> None:
    """Checks a number, and a float as well as what is computed with."""
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


class Choice(NamedTuple):
    """Names of what is chosen."""

    algo: str
    network: str


_FAMILIES: dict[str, tuple[str, Mapping[str, type]]] = {
    "algo": ("strategy", ALGOS),
    "network": ("network", NETWORKS),
}
"""Section -> what it chooses, and what can be chosen."""


def choose(given: DictConfig) -> Choice:
    """Returns the strategy and the network that are asked for; one that is not named follows from the other.

    Raises:
        ConfigError: an unknown name, or two that do not go together.
    """
    algo, network = given_name(given, "algo"), given_name(given, "network")
    if algo is None:
        algo = next(name for name, networks in PAIRS.items() if network is None or network in networks)
    if network is None:
        network = PAIRS[algo][0]
    if network not in PAIRS[algo]:
        pairs = "; ".join(f"{name} with {', '.join(networks)}" for name, networks in PAIRS.items())
        raise ConfigError(f"the strategy {algo!r} cannot search the network {network!r}. What goes together: {pairs}.")
    return Choice(algo, network)


def take_sections(given: DictConfig, choice: Choice) -> None:
    """Puts the keys of `algo.ec:` and the like into `algo` where that is chosen, and drops them where it is not.

    Args:
        given: what stands in a file or in overrides; changed in place.
        choice: what is chosen.

    Raises:
        ConfigError: an unknown key in one of them, chosen or not.
    """
    for section, chosen in choice._asdict().items():
        node = given.get(section)
        if not isinstance(node, DictConfig):
            continue
        for name, config in _FAMILIES[section][1].items():
            if name not in node:
                continue
            own = node.pop(name)
            where = f"{section}.{name}"
            if not isinstance(own, DictConfig):
                raise ConfigError(f"{where}: expected a section with keys that hold for {name} alone, got {own!r}.")
            check_keys(own, config(), f"{where}.")
            if "name" in own:
                raise ConfigError(f"{where}.name: the section is for {name} already. Leave the name out.")
            if name == chosen:
                node.merge_with(own)


def keys_of_others(choice: Choice) -> dict[str, str]:
    """Returns the keys of the strategies and networks that are not chosen, and whose they are, in words."""
    hints = {}
    for section, chosen in choice._asdict().items():
        kind, members = _FAMILIES[section]
        keys = {name: [key for key, _, _ in walk(config(), f"{section}.")] for name, config in members.items()}
        for key in {key for several in keys.values() for key in several}.difference(keys[chosen]):
            owners = ", ".join(name for name, several in keys.items() if key in several)
            hints[key] = f"it is a key of {owners}, and the {kind} is {chosen}"
    return hints


def given_name(given: DictConfig, section: str) -> str | None:
    """Returns the strategy or network that a section names, None where it names none.

    Args:
        given: what stands in a file or in overrides.
        section: `algo` or `network`.

    Raises:
        ConfigError: an unknown name.
    """
    kind, known = _FAMILIES[section]
    node = given.get(section)
    name = node.get("name") if isinstance(node, DictConfig) else None
    if name is not None and (not isinstance(name, str) or name not in known):
        raise unknown_name(kind, name, known)
    return name


def load_config(source: str | None = None, overrides: Sequence[str] = ()) -> RunConfig:
    """Returns the checked configuration of a run.

    Args:
        source: name of a preset, or path of a YAML file; None for the defaults.
        overrides: OmegaConf dot-list entries such as `algo.population=1024`, the last one wins.

    Raises:
        ConfigError: an unreadable file, an unknown key or name, a wrong type, a value out of range.
    """
    file = read_yaml(find_named(source, "preset", config_dir()), is_text) if source else OmegaConf.create({})
    typed = read_overrides(overrides, is_text)
    as_written = copy.deepcopy(file)
    try:
        choice = choose(_merge(file, typed))
        take_sections(file, choice)
        take_sections(typed, choice)
        return resolve_config(_merge(file, typed))
    except ConfigError as error:
        if source is not None and is_path(source) and _message_of(as_written) == str(error):
            raise ConfigError(f"{source}: {error}") from None
        raise


def override_config(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """Returns `config` with some keys replaced, checked anew.

    Raises:
        ConfigError: as `load_config`.
    """
    changes = read_overrides(overrides, is_text)
    choice = Choice(config.algo.name, config.network.name)
    for section, chosen in choice._asdict().items():
        if (wanted := given_name(changes, section) or chosen) != chosen:
            raise ConfigError(
                f"{section}.name={wanted}: the run has {section}.name={chosen}, and with another it would be another "
                "run. Start that with evoconn train."
            )
    take_sections(changes, choice)
    return resolve_config(_merge(OmegaConf.create(dataclasses.asdict(config)), changes))


def resolve_config(given: DictConfig) -> RunConfig:
    """Returns the checked configuration with the values `given` in place of the defaults.

    Raises:
        ConfigError: an unknown key or name, a wrong type, a value out of range.
    """
    choice = choose(given)
    defaults = RunConfig(algo=ALGOS[choice.algo](), network=NETWORKS[choice.network]())
    check_keys(given, defaults, every=[name for name, _, _ in walk(defaults)], others=keys_of_others(choice))
    if OmegaConf.select(given, "task.name") is None:
        raise ConfigError(f"no task is given. Add `--task NAME`, one of: {', '.join(BRAX_V1_TASKS)}.")
    config = fill(defaults, given)
    _check_values(config)
    return config


def read_config(path: Path) -> RunConfig:
    """Returns the configuration that `write_config` wrote to `path`.

    Raises:
        ConfigError: as `load_config`.
    """
    return resolve_config(read_yaml(path, is_text))


def write_config(config: RunConfig, path: Path) -> None:
    """Writes every key of `config` to the YAML file `path`."""
    path.write_text(config_to_yaml(config), encoding="utf-8")


def config_to_yaml(config: RunConfig) -> str:
    """Returns every key of `config` as YAML."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def config_from_yaml(text: str) -> RunConfig:
    """Returns the configuration that `config_to_yaml` wrote.

    Raises:
        ConfigError: as `load_config`.
    """
    given = OmegaConf.create(normalize(text, is_text))
    assert isinstance(given, DictConfig)
    return resolve_config(given)


def _merge(*parts: DictConfig) -> DictConfig:
    try:
        given = OmegaConf.merge(*parts)
    except (OmegaConfBaseException, TypeError) as error:  # TypeError: a list where a section is expected
        raise ConfigError(f"the configuration cannot be merged: {first_line(error)}.") from None
    assert isinstance(given, DictConfig)
    return given


def _message_of(given: DictConfig) -> str | None:
    """Returns what is wrong with a configuration, None where nothing is."""
    try:
        take_sections(given, choose(given))
        resolve_config(given)
    except ConfigError as error:
        return str(error)
    return None


def _check_values(config: RunConfig) -> None:
    check_values(config)
    if config.algo.population * config.task.episode_length >= 2**31:
        raise ConfigError(
            f"algo.population={config.algo.population} times task.episode_length={config.task.episode_length}: the "
            f"steps of a generation are counted in 32 bits and must be fewer than {2**31}. Lower either."
        )
    if num_members(config) < 2:
        raise ConfigError(
            f"algo.population={config.algo.population}: {num_evaluation_copies(config)} of them are evaluation copies, "
            f"so at least {num_evaluation_copies(config) + 2} are needed. Raise it, or lower algo.evaluation_copies."
        )
    if isinstance(config.algo, EsConfig) and num_members(config) % 2:
        raise ConfigError(
            f"algo.population={config.algo.population}: es perturbs in pairs, so the {num_members(config)} members "
            f"beside the {num_evaluation_copies(config)} evaluation copies must be even in number. Change either."
        )
    if isinstance(config.algo, EcConfig) and not config.algo.eps <= config.algo.initial_prob <= 1 - config.algo.eps:
        raise ConfigError(
            f"algo.initial_prob={config.algo.initial_prob}: must be from algo.eps to 1 - algo.eps, "
            f"{config.algo.eps} to {1 - config.algo.eps}."
        )
    network = config.network
    if isinstance(network, SpikingConfig):
        if as_float32(network.v_threshold) <= as_float32(network.v_rest):
            raise ConfigError(
                f"network.v_threshold={network.v_threshold}: must be above network.v_rest={network.v_rest}."
            )
        substeps = round(network.step_ms / network.dt_ms)
        if substeps >= 2**31:
            raise ConfigError(
                f"network.step_ms={network.step_ms} over network.dt_ms={network.dt_ms}: the sub-steps of an "
                f"environment step are counted in 32 bits and must be fewer than {2**31}."
            )
        if substeps < 1:
            raise ConfigError(
                f"network.dt_ms={network.dt_ms}: must be at most network.step_ms={network.step_ms}, "
                "so that an environment step has at least one sub-step."
            )
