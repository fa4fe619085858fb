"""Finds the network that a new run starts from (`--init`), and makes the configuration of that run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf

from evoconn_cli.config.formats import bundle_config, is_bundle
from evoconn_cli.config.loading import resolve_config
from evoconn_cli.config.numbers import as_float32
from evoconn_cli.config.reading import Overrides, read_overrides
from evoconn_cli.config.registry import find
from evoconn_cli.config.schema import CHOSEN_BY_NAME, RunConfig, is_text
from evoconn_cli.errors import ConfigError
from evoconn_cli.runs.directory import RunDirectory, locate, readable
from evoconn_cli.runs.listing import ZOO, named_run
from evoconn_cli.runs.provenance import without_folders

_CERTAINTY = 0.9
"""Value of `algo.initial_certainty` for a run that starts from a connectome, if none is given."""

_CONNECTIONS = "connections"
"""What networks with boolean connections are made of, see `Entry.candidates`."""


class Source(NamedTuple):
    """A network to start from."""

    name: str  # `zoo:NAME`, or the path without folders outside the current directory
    path: Path
    config: RunConfig


def find_source(given: str | Path) -> Source:
    """Returns the run, checkpoint or bundle that `given` names.

    Raises:
        ConfigError: It has no boolean connections, or the zoo has no network of that name.
        EvoconnError: There is none, or it cannot be read.
    """
    path = named_run(Path(given))
    with readable(path):
        in_bundle = is_bundle(path)
    config = bundle_config(path) if in_bundle else RunDirectory.open(locate(path)[0]).read_config()
    if find("network", config.network.name).candidates != _CONNECTIONS:
        raise ConfigError(
            f"--init {given}: its network {config.network.name} has real weights, and a run starts from boolean "
            "connections. Name a run of ec, a bundle, or zoo:NAME."
        )
    name = str(given) if str(given).startswith(ZOO) else without_folders(RunDirectory(path).short_path())
    return Source(name, path, config)


def config_from(source: Source, base: DictConfig, overrides: Overrides) -> RunConfig:
    """Returns the configuration of a run that starts from a connectome.

    It has task and network of the source, in place of those in `base`. Overrides go first.

    Args:
        source: Network to start from.
        base: Content of a preset or a configuration, maybe empty.
        overrides: As for `load_config`.

    Raises:
        ConfigError: As for `load_config`; the strategy cannot start from a connectome, or would keep nothing of it.
    """
    given = read_overrides(overrides, is_text)
    handed_down = {}
    for section in ("task", "network"):
        own = getattr(source.config, section)
        if OmegaConf.select(given, f"{section}.name") in (None, own.name):
            handed_down[section] = dataclasses.asdict(own)
    rest = OmegaConf.masked_copy(base, [str(key) for key in base if key not in handed_down])
    parts = [part for part in (rest, OmegaConf.create(handed_down), given) if isinstance(part, DictConfig)]
    for section, part in (("network", given), ("algo", given), ("algo", base)):
        name = OmegaConf.select(part, f"{section}.name")
        if name is not None and find(CHOSEN_BY_NAME[section], name).candidates != _CONNECTIONS:
            raise ConfigError(
                f"--init {source.name} has boolean connections, and {section}.name={name} is for real weights. Leave "
                "one of the two out."
            )
    config = resolve_config(*parts)
    algo, own = config.algo.name, ("algo.initial_certainty", f"algo.{config.algo.name}.initial_certainty")
    certainty = getattr(config.algo, "initial_certainty", None)
    if certainty is None or not hasattr(config.algo, "initial_connectome"):
        raise ConfigError(
            f"--init {source.name}: the strategy {algo} cannot start from a connectome, because it has no keys "
            "initial_certainty and initial_connectome. Use ec."
        )
    if not certainty and all(OmegaConf.select(given, key) is None for key in own):
        config = dataclasses.replace(config, algo=dataclasses.replace(config.algo, initial_certainty=_CERTAINTY))
        certainty = _CERTAINTY
    _check_that_it_is_kept(certainty, getattr(config.algo, "initial_prob", 0.5), source.name)
    return config


def _check_that_it_is_kept(certainty: float, prob: float, name: str) -> None:
    """Raises a ConfigError if the first probabilities are not on the side of 1/2 that the connectome has."""
    absent, present = prob * (1 - certainty), prob + certainty * (1 - prob)
    if not as_float32(absent) <= 0.5 < as_float32(present):
        raise ConfigError(
            f"--init {name}: with algo.initial_certainty={certainty} and algo.initial_prob={prob}, probabilities start "
            f"at {absent:g} without a connection and {present:g} with one, which loses the connectome, because a "
            "connection exists above 1/2. Raise algo.initial_certainty, or leave both out."
        )
