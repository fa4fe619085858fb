"""How YAML is read: numbers as in the core schema of YAML 1.2, and text where a key holds text, whatever it looks like.

PyYAML reads YAML 1.1, in which `010` is 8, `1:30` is 90, `1_000` is 1000 and `no` is false.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

import yaml

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
