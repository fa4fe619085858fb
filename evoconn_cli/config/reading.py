"""Reads YAML from untrusted files and command lines: mappings, lists, text and null, nothing else.

What a text means, the type of its key decides: `007` is a name or the number 7.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from omegaconf import DictConfig, OmegaConf

from evoconn_cli.config.numbers import read_number
from evoconn_cli.config.registry import config_dir, find_named
from evoconn_cli.errors import ConfigError, first_line

IsText: TypeAlias = Callable[[str], bool]
"""Whether the values of a full key, such as `tracking.name`, are text. Those in a list have the key of the list."""

Overrides: TypeAlias = Sequence[str] | Mapping[str, Any]
"""Entries `KEY=VALUE`, or values by key; a key may have dots, and its value may be a mapping of further keys."""

MAX_BYTES = 100_000
"""Largest configuration file; one has about a thousand bytes."""

MAX_VALUES = 20_000
"""Most values, each alias counted with the values that it repeats: ten lines of aliases make 10^10."""

MAX_DEPTH = 16
"""Most collections inside each other; thousands of them overflow the stack of the YAML library."""

_TAG = "tag:yaml.org,2002:"
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class _TextLoader(yaml.SafeLoader):
    """Leaves scalars as they are written, but for null and merge keys."""

    yaml_implicit_resolvers = {
        None: [(f"{_TAG}null", re.compile(r"(?:|~|null|Null|NULL)\Z")), (f"{_TAG}merge", re.compile(r"<<\Z"))]
    }
    yaml_constructors = {
        **{f"{_TAG}{name}": yaml.SafeLoader.construct_yaml_str for name in ("str", "int", "float", "bool")},
        f"{_TAG}null": yaml.SafeLoader.construct_yaml_null,
        f"{_TAG}seq": yaml.SafeLoader.construct_yaml_seq,
        f"{_TAG}map": yaml.SafeLoader.construct_yaml_map,
        None: yaml.SafeLoader.construct_undefined,
    }
    depth = 0

    def compose_sequence_node(self, anchor: Any) -> Any:
        return self._nested(super().compose_sequence_node, anchor)

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = self._nested(super().compose_mapping_node, anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen and key.tag == f"{_TAG}str":
                began, place = node.start_mark, key.start_mark
                raise yaml.MarkedYAMLError(
                    "while constructing a mapping", began, f"found duplicate key {key.value}", place
                )
            seen.add(key.value)
        return node

    def _nested(self, compose: Callable[[Any], Any], anchor: Any) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} collections are nested in each other")
        node = compose(anchor)
        self.depth -= 1
        children = [child for item in node.value for child in (item if isinstance(item, tuple) else (item,))]
        node.size = 1 + sum(getattr(child, "size", 1) for child in children)
        if node.size > MAX_VALUES:
            raise ValueError(f"it has more than {MAX_VALUES} values, aliases followed")
        return node


def _plain(text: str) -> Any:
    """Returns the nested lists, mappings and texts of a YAML document; tags of objects are refused."""
    return _TextLoader(text).get_single_data()


def _read(path: Path) -> bytes:
    """Returns the content of a configuration file.

    Raises:
        ConfigError: It cannot be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"cannot read the configuration {path}: {reason}.") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is too large for a configuration, which has at most {MAX_BYTES} bytes.")
    return data


def peek(path: Path) -> dict[str, str]:
    """Returns the texts of `KEY` and `SECTION.KEY` in a YAML file, such as `algo.name`; nothing else is checked.

    It takes a fiftieth of the time of `read_config`, for lists of hundreds of runs.

    Raises:
        ConfigError: The file cannot be read or is not YAML.
    """
    found: dict[str, str] = {}
    pending: list[str | None] = []  # key of each open collection whose value comes next
    try:
        for event in yaml.parse(_read(path), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.CollectionStartEvent):
                pending.append(None)
                continue
            if isinstance(event, yaml.CollectionEndEvent):
                pending.pop()
            elif isinstance(event, yaml.ScalarEvent) and pending:
                if pending[-1] is None:
                    pending[-1] = event.value
                    continue
                if len(pending) <= 2:
                    found[".".join(map(str, pending))] = event.value
            if pending:
                pending[-1] = None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} is not valid YAML: {first_line(error)}.") from None
    return found


def read_base(source: str | None) -> DictConfig:
    """Returns the content of a preset or YAML file that `--config` names; nothing for None.

    Raises:
        ConfigError: As for `read_yaml`, or an unknown name.
    """
    return read_yaml(find_named(source, "preset", config_dir())) if source else OmegaConf.create()


def read_yaml(path: Path, is_text: IsText | None = None) -> DictConfig:
    """Returns the mapping in a YAML file.

    Args:
        path: File to read.
        is_text: Keys whose values stay text, while others become the numbers and truth values that they look like;
            None if all values stay text.

    Raises:
        ConfigError: It cannot be read, is not valid, or holds something else than a mapping of plain values.
    """
    data = _read(path)
    try:
        return read_text(data.decode(), str(path), is_text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not valid YAML: {first_line(error)}.") from None


def read_text(text: str, where: str, is_text: IsText | None = None) -> DictConfig:
    """Returns the mapping in a YAML text.

    Args:
        text: YAML.
        where: Where it is from, for messages.
        is_text: As for `read_yaml`.

    Raises:
        ConfigError: As for `read_yaml`.
    """
    try:
        plain = _plain(text)
        plain = {} if plain is None else plain
        loaded = OmegaConf.create(_typed(plain, is_text) if is_text else plain) if isinstance(plain, dict) else None
    except Exception as error:  # PyYAML and OmegaConf let through what their constructors raise, such as KeyError
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise ConfigError(f"{where} is not valid YAML: {place}{_problem(error)}") from None
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{where} is not a configuration: expected `key: value` lines at its top level.")
    _refuse_references(loaded, where)
    return loaded


def read_overrides(overrides: Overrides, is_text: IsText) -> DictConfig:
    """Returns the mapping that overrides make, the last one of a key wins.

    Args:
        overrides: Entries, or values by key.
        is_text: Keys whose values are text, which then need no quotes, such as `tracking.name=[1] #2`.

    Raises:
        ConfigError: An entry cannot be read, or holds something else than a plain value.
    """
    if isinstance(overrides, Mapping):
        return _read_values(overrides)
    given = OmegaConf.create()
    for entry in overrides:
        key, equals, value = entry.partition("=")
        if not equals or not key or key.startswith("-"):
            raise ConfigError(f"cannot read the override {entry!r}: write KEY=VALUE, such as algo.population=512.")
        try:
            if key.count(".") + key.count("[") > MAX_DEPTH:
                raise ValueError(f"more than {MAX_DEPTH} keys are nested in each other")
            is_bare = is_text(key) and value[:1] not in ("", "'", '"') and value.lower() not in ("null", "~")
            OmegaConf.update(given, key, value if is_bare else _plain(value))
        except Exception as error:  # as above
            raise ConfigError(f"cannot read the override {entry!r}: {_problem(error)}") from None
    _refuse_references(given, " ".join(overrides))
    return given


def _read_values(overrides: Mapping[str, Any]) -> DictConfig:
    """Returns the mapping that values by key make.

    Raises:
        ConfigError: A key or a value is not plain.
    """
    given = OmegaConf.create()
    for key, value in _leaves(overrides):
        try:
            OmegaConf.update(given, key, value)
        except Exception as error:  # as above
            raise ConfigError(f"cannot read the override {key}={value!r}: {_problem(error)}") from None
    _refuse_references(given, "the overrides")
    return given


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the full keys in nested mappings with their values; numbers of NumPy become those of Python."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value


def _typed(plain: Any, is_text: IsText, key: str = "") -> Any:
    """Returns nested values with numbers and truth values in place of the texts that look like them."""
    if isinstance(plain, dict):
        return {name: _typed(value, is_text, f"{key}.{name}" if key else str(name)) for name, value in plain.items()}
    if isinstance(plain, list):
        return [_typed(value, is_text, key) for value in plain]
    if not isinstance(plain, str) or is_text(key):
        return plain
    number = read_number(plain)
    return _TRUTH.get(plain, plain) if number is None else number


def _problem(error: Exception) -> str:
    """Returns what is wrong with a YAML text, as a sentence."""
    if isinstance(error, RecursionError):
        return "an alias is inside the collection that it names."
    if not isinstance(error, yaml.MarkedYAMLError) or not error.problem:
        return f"{first_line(error)}."
    began = error.context_mark
    within = f" {error.context} that begins in line {began.line + 1}" if error.context and began is not None else ""
    return f"{error.problem}{within}."


def _refuse_references(config: DictConfig, where: str) -> None:
    for text in _texts(OmegaConf.to_container(config, resolve=False)):
        if "${" in text:
            raise ConfigError(f"{where}: {text!r} is a reference, and those are not followed. Write the value itself.")


def _texts(plain: Any) -> Iterator[str]:
    """Yields every text in nested lists and mappings, keys included."""
    if isinstance(plain, str):
        yield plain
    elif isinstance(plain, dict | list):
        for part in [*plain, *plain.values()] if isinstance(plain, dict) else plain:
            yield from _texts(part)
