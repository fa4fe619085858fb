"""Loading, merging, checking and writing configurations.

`load_config` merges, in this order, the defaults of the schema, a preset or a YAML file, and the overrides of
the command line; it checks all of it in one place and returns frozen dataclasses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from evoconn_cli.config.checking import check_keys, check_values
from evoconn_cli.config.names import PAIRS, TASKS
from evoconn_cli.config.reading import read_overrides, read_yaml
from evoconn_cli.config.schema import (
    ALGOS,
    NETWORKS,
    AlgoConfig,
    EsConfig,
    NetworkConfig,
    RunConfig,
    SpikingConfig,
    num_evaluation_copies,
    num_members,
    walk,
)
from evoconn_cli.config.shipped import config_dir, find_named
from evoconn_cli.errors import ConfigError, first_line, unknown_name


def load_config(source: str | None = None, overrides: Sequence[str] = ()) -> RunConfig:
    """Returns the checked configuration of a run.

    Args:
        source: name of a preset, or path of a YAML file; None for the defaults.
        overrides: OmegaConf dot-list entries such as `algo.population=1024`, the last one wins.

    Raises:
        ConfigError: an unreadable file, an unknown key or name, a wrong type, a value out of range.
    """
    parts = [read_yaml(find_named(source, "preset", config_dir()))] if source else []
    parts.append(read_overrides(overrides))
    try:
        given = OmegaConf.merge(*parts)
    except OmegaConfBaseException as error:
        raise ConfigError(f"the configuration cannot be merged: {first_line(error)}.") from None
    assert isinstance(given, DictConfig)
    return resolve_config(given)


def override_config(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """Returns `config` with some keys replaced, checked anew.

    Raises:
        ConfigError: as `load_config`.
    """
    given = OmegaConf.merge(dataclasses.asdict(config), read_overrides(overrides))
    assert isinstance(given, DictConfig)
    return resolve_config(given)


def resolve_config(given: DictConfig) -> RunConfig:
    """Returns the checked configuration with the values `given` in place of the defaults.

    Raises:
        ConfigError: an unknown key or name, a wrong type, a value out of range.
    """
    algo, network = _choose(given)
    defaults = RunConfig(algo=algo(), network=network())
    check_keys(given, defaults, every=[name for name, _, _ in walk(RunConfig())])
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(defaults), given))
    except MissingMandatoryValue:
        raise ConfigError(f"no task is given. Add `--task NAME`, one of: {', '.join(TASKS)}.") from None
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "?"
        raise ConfigError(f"{key}: {first_line(error)}.") from None
    assert isinstance(config, RunConfig)
    _check_values(config)
    return config


def read_config(path: Path) -> RunConfig:
    """Returns the configuration that `write_config` wrote to `path`.

    Raises:
        ConfigError: as `load_config`.
    """
    return resolve_config(read_yaml(path))


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
    given = OmegaConf.create(text)
    assert isinstance(given, DictConfig)
    return resolve_config(given)


def _choose(given: DictConfig) -> tuple[type[AlgoConfig], type[NetworkConfig]]:
    """Returns the strategy and the network that are asked for; one that is not named follows from the other."""
    algo = _given_name(given, "algo", "algorithm", ALGOS)
    network = _given_name(given, "network", "network", NETWORKS)
    if algo is None:
        algo = next(name for name, networks in PAIRS.items() if network is None or network in networks)
    if network is None:
        network = PAIRS[algo][0]
    if network not in PAIRS[algo]:
        pairs = "; ".join(f"{name} with {', '.join(networks)}" for name, networks in PAIRS.items())
        raise ConfigError(f"the strategy {algo!r} cannot search the network {network!r}. What goes together: {pairs}.")
    return ALGOS[algo], NETWORKS[network]


def _given_name(given: DictConfig, section: str, kind: str, known: Mapping[str, type]) -> str | None:
    node = given.get(section)
    name = node.get("name") if isinstance(node, DictConfig) else None
    if name is not None and (not isinstance(name, str) or name not in known):
        raise unknown_name(kind, name, known)
    return name


def _check_values(config: RunConfig) -> None:
    check_values(config)
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
    network = config.network
    if isinstance(network, SpikingConfig):
        if network.v_threshold <= network.v_rest:
            raise ConfigError(
                f"network.v_threshold={network.v_threshold}: must be above network.v_rest={network.v_rest}."
            )
        if round(network.step_ms / network.dt_ms) < 1:
            raise ConfigError(
                f"network.dt_ms={network.dt_ms}: must be at most network.step_ms={network.step_ms}, "
                "so that an environment step has at least one sub-step."
            )
