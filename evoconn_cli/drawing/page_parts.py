"""What pages have in common: a template that is filled in, and data as one compressed text."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

ARRAY_TYPES = ("float32", "int16", "uint8")
"""Types of numbers that `unpack.js` knows."""


def read_web(package: str, name: str) -> str:
    """Returns the text of a file in the directory `web` of a package."""
    return resources.files(package).joinpath("web", name).read_text(encoding="utf-8")


def fill(template: str, parts: Mapping[str, str]) -> str:
    """Returns `template` with every `{{name}}` replaced by that part.

    Every part is put in once, so that nothing in one of them is taken for the place of another.
    """
    first, *rest = template.split("{{")
    pieces = [first]
    for piece in rest:
        name, text = piece.split("}}", 1)
        pieces += [parts[name], text]
    return "".join(pieces)


def pack(
    header: Mapping[str, Any], name: str, groups: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]
) -> str:
    """Returns data for `unpack.js`: length of the header, the header as JSON, then the arrays on whole words.

    Args:
        header: what the page knows besides, as JSON values.
        name: of the list of groups in the header.
        groups: facts of a group, and its arrays, of `ARRAY_TYPES`.

    Raises:
        TypeError: an array of another type.
    """
    described, chunks, offset = [], [], 0
    for facts, arrays in groups:
        entry = {}
        for array_name, array in arrays.items():
            if array.dtype.name not in ARRAY_TYPES:
                raise TypeError(f"{array_name} is {array.dtype.name}, and unpack.js knows {', '.join(ARRAY_TYPES)}")
            data = array.tobytes()
            entry[array_name] = {"type": array.dtype.name, "offset": offset, "length": array.size}
            chunks += [data, bytes(-len(data) % 4)]
            offset += len(data) + len(chunks[-1])
        described.append({**facts, "arrays": entry})
    # The place of the first array is a part of the header that says it: a number of fixed width.
    text = json.dumps({"start": "#" * 8, **header, "packed": name, name: described}, allow_nan=False).encode()
    start = (4 + len(text) + 3) // 4 * 4
    text = text.replace(b'"########"', f"{start:10d}".encode(), 1)
    padding = bytes(start - 4 - len(text))
    packed = gzip.compress(b"".join([len(text).to_bytes(4, "little"), text, padding, *chunks]), mtime=0)
    return base64.b64encode(packed).decode("ascii")
