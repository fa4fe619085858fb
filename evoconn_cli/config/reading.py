"""Reading YAML that somebody else may have written: plain values only, and a ConfigError for everything else.

OmegaConf builds no objects and bounds what aliases expand to. References such as `${oc.env:HOME}` are refused: they
would copy the environment, credentials included, into config.yaml and to W&B, and a configuration would no longer
say what it is.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from evoconn_cli.config.text_values import IsText, normalize
from evoconn_cli.errors import ConfigError, first_line

MAX_BYTES = 100_000
"""A configuration has about a thousand."""

MAX_DEPTH = 16
"""Collections inside each other; thousands of them overflow the stack of the YAML library, which ends the process."""


def _no_key(key: str) -> bool:
    return False


def read_yaml(path: Path, is_text: IsText = _no_key) -> DictConfig:
    """Returns the mapping in a YAML file.

    Args:
        path: the file.
        is_text: the keys whose values are text, whatever they look like.

    Raises:
        ConfigError: it cannot be read, is not valid, or holds something else than a mapping of plain values.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {_reason(error)}.") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is too large for a configuration, which has at most {MAX_BYTES} bytes.")
    try:
        text = data.decode()
        _check_depth(text)
        loaded = OmegaConf.load(io.StringIO(normalize(text, is_text)))
    except Exception as error:  # PyYAML lets through what its constructors raise, such as KeyError
        raise ConfigError(f"{path} is not valid YAML: {_place(error)}{_problem(error)}") from None
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{path} is not a configuration: expected `key: value` lines at its top level.")
    _refuse_references(loaded, str(path))
    return loaded


def read_overrides(overrides: Sequence[str], is_text: IsText = _no_key) -> DictConfig:
    """Returns the mapping that `KEY=VALUE` entries make, the last one of a key wins.

    Args:
        overrides: the entries.
        is_text: the keys whose values are text, whatever they look like.

    Raises:
        ConfigError: an entry cannot be read, or holds something else than a plain value.
    """
    entries = [_read_entry(entry, is_text) for entry in overrides]
    given = " ".join(overrides)
    try:
        parsed = OmegaConf.from_dotlist(entries)
    except Exception as error:  # as above
        raise ConfigError(f"cannot read the overrides {given}: {_problem(error)}") from None
    _refuse_references(parsed, given)
    return parsed


def _read_entry(entry: str, is_text: IsText) -> str:
    """Returns an override, its value quoted where it is text."""
    key, equals, value = entry.partition("=")
    if not equals or not key or key.startswith("-"):
        raise ConfigError(f"cannot read the override {entry!r}: write KEY=VALUE, such as algo.population=512.")
    try:
        if key.count(".") + key.count("[") > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} keys are nested in each other")
        if is_text(key) and value[:1] not in ("", "'", '"') and value.lower() not in ("null", "~"):
            quoted = value.replace("'", "''")
            return f"{key}='{quoted}'"
        _check_depth(value)
        return f"{key}={normalize(value, is_text, key)}"
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"cannot read the override {entry!r}: {_problem(error)}") from None


def _problem(error: Exception) -> str:
    """Returns what is wrong with a YAML text, as a sentence."""
    if not isinstance(error, yaml.MarkedYAMLError) or not error.problem:
        return f"{first_line(error)}."
    began = error.context_mark
    within = f" {error.context} that begins in line {began.line + 1}" if error.context and began is not None else ""
    return f"{error.problem}{within}."


def _place(error: Exception) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""


def _check_depth(text: str) -> None:
    """Raises a ValueError where collections of a YAML text are nested too deep."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"more than {MAX_DEPTH} collections are nested in each other")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _refuse_references(config: DictConfig, where: str) -> None:
    for text in _texts(OmegaConf.to_container(config, resolve=False)):
        if "${" in text:
            raise ConfigError(f"{where}: {text!r} is a reference, and those are not followed. Write the value itself.")


def _texts(plain: Any) -> Iterator[str]:
    """Yields every text in nested lists and mappings, keys included."""
    if isinstance(plain, str):
        yield plain
    elif isinstance(plain, dict):
        for key, value in plain.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(plain, list):
        for value in plain:
            yield from _texts(value)
