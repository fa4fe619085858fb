"""Which strategy and which network a configuration is for, and the keys that only one of them has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from omegaconf import DictConfig

from evoconn_cli.config.checking import check_keys
from evoconn_cli.config.names import PAIRS
from evoconn_cli.config.schema import ALGOS, NETWORKS, walk
from evoconn_cli.errors import ConfigError, unknown_name


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
