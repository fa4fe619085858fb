"""Reads YAML from untrusted files: plain values only."""

from __future__ import annotations

import ctypes
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from omegaconf import DictConfig, OmegaConf

from evoconn_cli.errors import ConfigError, first_line

LARGEST = (2 - 2**-23) * 2.0**127
SMALLEST = 2.0**-126


def as_float32(value: float) -> float:
    """Returns what becomes of a number in float32: infinity beyond the largest one, 0 below the smallest."""
    held = ctypes.c_float(value).value
    return 0.0 if abs(held) < SMALLEST else held


def float32_problem(value: float) -> str | None:
    """Returns why a number cannot be computed with, as the end of a sentence; None where it can be."""
    if math.isnan(value) or math.isinf(value):
        return "must be a finite number"
    if math.isinf(as_float32(value)):
        return f"must be between -{LARGEST:.7g} and {LARGEST:.7g}, since it is computed with in float32"
    if value and not as_float32(value):
        return f"must be at least {SMALLEST:.7g} in size, or 0, since it is computed with in float32"
    return None


IsText: TypeAlias = Callable[[str], bool]
"""Whether the values of a full key, such as `tracking.name`, are text. Those in a list have the key of the list."""

_PREFIX = "tag:yaml.org,2002:"
_CORE_SCHEMA = {
    "null": r"|~|null|Null|NULL",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": r"<<",
}
"""Source: YAML 1.2.2, 10.3.2 Tag Resolution; merge keys are of 1.1."""


class _CoreLoader(yaml.SafeLoader):
    """Resolves plain scalars as YAML 1.2 does."""

    yaml_implicit_resolvers = {
        None: [(_PREFIX + name, re.compile(f"(?:{form})\\Z")) for name, form in _CORE_SCHEMA.items()]
    }


def read_number(text: str) -> int | float | None:
    """Returns the number that `text` is in the core schema of YAML 1.2, None for anything else."""
    if re.fullmatch(_CORE_SCHEMA["int"], text):
        try:
            return int(text, 0 if text.startswith(("0o", "0x")) else 10)
        except ValueError:  # thousands of digits
            return None
    if re.fullmatch(_CORE_SCHEMA["float"], text):
        return float(re.sub(r"\.(inf|nan)", r"\1", text.lower()))
    return None


def read_float(text: str) -> float | None:
    """Returns the number that `text` is, as `read_number` does, as a float."""
    number = read_number(text.strip())
    try:
        return None if number is None else float(number)
    except OverflowError:
        return math.inf


def normalize(text: str, is_text: IsText, key: str = "") -> str:
    """Returns a YAML text that PyYAML reads as YAML 1.2 is read, with text where keys hold text; lines stay.

    Nulls stay nulls.

    Args:
        text: YAML.
        is_text: which values are text, whatever they look like.
        key: full key that the text is the value of; none for a whole file.

    Raises:
        yaml.YAMLError: it is not valid.
    """
    root = yaml.compose(text, Loader=_CoreLoader)
    scalars = {} if root is None else {node.end_mark.index: (node, k) for node, k in _scalars(root, key, set())}
    for end, (node, its_key) in sorted(scalars.items(), reverse=True):
        start = end - len(node.value)
        if text[start:end] == node.value:  # not so where it has several lines, and is text anyway
            text = f"{text[:start]}{_rewrite(node, is_text(its_key))}{text[end:]}"
    return text


def _rewrite(node: yaml.ScalarNode, is_text: bool) -> str:
    """Returns a plain scalar in a form that has one reading."""
    tag = node.tag.removeprefix(_PREFIX)
    if tag == "str" or (is_text and tag != "null"):
        quoted = node.value.replace("'", "''")
        return f"'{quoted}'"
    number = read_number(node.value) if tag in ("int", "float") else None
    return node.value if number is None or not math.isfinite(number) else repr(number)


def _scalars(node: yaml.Node, key: str, seen: set[int]) -> Iterator[tuple[yaml.ScalarNode, str]]:
    """Yields the plain scalars below `node`, each with its full key; an alias is one of the nodes `seen`."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from _scalars(name, "", seen)
            if isinstance(name, yaml.ScalarNode):
                yield from _scalars(value, f"{key}.{name.value}" if key else name.value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item, key, seen)
    elif isinstance(node, yaml.ScalarNode):
        form = _CORE_SCHEMA.get(node.tag.removeprefix(_PREFIX))
        if form is not None and not re.fullmatch(form, node.value):  # the tag was written, such as `!!int 1:30`
            raise yaml.YAMLError(f"{node.value!r} is not what its tag says in YAML 1.2")
        if node.style is None:
            yield node, key


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
