"""Loading, merging, checking and writing configurations.

`load_config` merges, in this order, the defaults of the schema, a preset or a YAML file, and the overrides of
the command line; it checks all of it in one place and returns frozen dataclasses. A file may have keys that hold for
one strategy or network alone: `algo: {ec: {learning_rate: 0.1}}`.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evoconn_cli.config.checking import check_keys, check_values, fill
from evoconn_cli.config.choosing import Choice, choose, given_name, keys_of_others, take_sections
from evoconn_cli.config.float32 import as_float32
from evoconn_cli.config.names import BRAX_V1_TASKS
from evoconn_cli.config.reading import read_overrides, read_yaml
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
from evoconn_cli.config.shipped import config_dir, find_named, is_path
from evoconn_cli.config.text_values import normalize
from evoconn_cli.errors import ConfigError, first_line


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
