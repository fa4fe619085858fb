"""Values that are text whatever they look like: YAML reads `007`, `1e5` and `no` as 7, 100000.0 and false."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import yaml

IsText: TypeAlias = Callable[[str], bool]
"""Whether the values of a full key, such as `tracking.name`, are text. Those in a list have the key of the list."""


def quote_texts(text: str, is_text: IsText, key: str = "") -> str:
    """Returns a YAML text in which the values that are text are quoted; nulls stay nulls, lines stay where they are.

    Args:
        text: YAML.
        is_text: which values.
        key: full key that the text is the value of; none for a whole file.

    Raises:
        yaml.YAMLError: it is not valid.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    values = [] if root is None else [(node.end_mark.index, node.value) for node in _texts(root, key, is_text, set())]
    for end, value in sorted(values, reverse=True):
        start = end - len(value)
        if text[start:end] == value:  # not so where it has several lines, and is text anyway
            quoted = value.replace("'", "''")
            text = f"{text[:start]}'{quoted}'{text[end:]}"
    return text


def _texts(node: yaml.Node, key: str, is_text: IsText, seen: set[int]) -> Iterator[yaml.ScalarNode]:
    """Yields the plain scalars below `node` that are text; an alias is one of the nodes `seen`."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode):
                yield from _texts(value, f"{key}.{name.value}" if key else name.value, is_text, seen)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _texts(item, key, is_text, seen)
    elif isinstance(node, yaml.ScalarNode) and node.style is None and node.tag != "tag:yaml.org,2002:null":
        if is_text(key):
            yield node
