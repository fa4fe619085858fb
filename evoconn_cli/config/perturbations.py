"""Perturbations of a policy or its task, for `evoconn evaluate --perturb`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evoconn_cli.config.numbers import float32_problem, read_float
from evoconn_cli.errors import ConfigError, unknown_name


@dataclass(frozen=True)
class Kind:
    """One kind of perturbation.

    Attributes:
        label: Label of the axis in a plot, with the unit.
        neutral: Value that changes nothing.
        high: Largest valid value.
        with_zero: Whether 0 is valid; no value is negative.
        physical: Whether it changes the physics of the task.
    """

    label: str
    neutral: float
    high: float = math.inf
    with_zero: bool = True
    physical: bool = False


KINDS = {
    "obs-noise": Kind("observation noise [standard deviations of the observation]", neutral=0.0),
    "lesion-synapses": Kind("probability that a synapse is cut", neutral=0.0, high=1.0),
    "lesion-neurons": Kind("probability that a neuron is cut off", neutral=0.0, high=1.0),
    "friction": Kind("friction [× trained]", neutral=1.0, physical=True),
    "gravity": Kind("gravity [× trained]", neutral=1.0, physical=True),
    "mass": Kind("mass [× trained]", neutral=1.0, with_zero=False, physical=True),
    "actuator-strength": Kind("actuator strength [× trained]", neutral=1.0, physical=True),
}


def parse_perturbations(entries: Sequence[str]) -> list[dict[str, float]]:
    """Returns the settings to evaluate as `{name: value}`; a single empty one if there are no entries.

    Several values of one name, separated by commas, make a sweep with one setting per value.

    Args:
        entries: `NAME=VALUE` or `NAME=VALUE,VALUE,...`.

    Raises:
        ConfigError: An unknown or repeated name, a value that cannot be read or is out of range, or more than one
            sweep.
    """
    parsed: dict[str, list[float]] = {}
    for entry in entries:
        name, equals, text = entry.partition("=")
        if not equals:
            known = name if name in KINDS else "obs-noise"
            raise ConfigError(f"cannot read --perturb {entry!r}: write NAME=VALUE, such as {known}=0.5.")
        if name not in KINDS:
            raise unknown_name("perturbation", name, KINDS)
        if name in parsed:
            raise ConfigError(f"--perturb {name} is given twice. For several values write {name}=0.1,0.2.")
        parsed[name] = list(dict.fromkeys(_value(name, part) for part in text.split(",")))
    sweeps = [name for name, values in parsed.items() if len(values) > 1]
    if len(sweeps) > 1:
        raise ConfigError(f"only one perturbation can have several values, not {' and '.join(sweeps)}.")
    num_settings = max(map(len, parsed.values()), default=1)
    return [{name: values[index % len(values)] for name, values in parsed.items()} for index in range(num_settings)]


def swept_name(settings: Sequence[dict[str, float]]) -> str | None:
    """Returns the perturbation that is swept, None without a sweep."""
    differing = (name for name in settings[0] if len({setting[name] for setting in settings}) > 1)
    return next(differing, None)


def setting_text(setting: Mapping[str, float], without: str | None = None) -> str:
    """Returns a setting as text such as `mass 2, obs-noise 0.1`, without the perturbation `without`."""
    return ", ".join(f"{name} {value:g}" for name, value in setting.items() if name != without)


def _value(name: str, text: str) -> float:
    kind = KINDS[name]
    value = read_float(text)
    if value is None:
        raise ConfigError(f"cannot read --perturb {name}={text}: {text!r} is not a number.")
    if not 0.0 <= value <= kind.high or not math.isfinite(value) or (value == 0.0 and not kind.with_zero):
        at_least = "at least 0" if kind.with_zero else "above 0"
        limits = f"from 0 to {kind.high:g}" if math.isfinite(kind.high) else at_least
        raise ConfigError(f"--perturb {name}={text}: must be {limits}.")
    if problem := float32_problem(value):
        raise ConfigError(f"--perturb {name}={text}: {problem}.")
    return value
