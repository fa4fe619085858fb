"""The parts that interactive pages share: filling in the template, and packing data as one compressed text."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

ARRAY_TYPES = ("float32", "int16", "uint8")
"""Element types that `unpack.js` reads."""


def fill_page(
    package: str, *, scripts: Sequence[str], title: str, data: str, files: Mapping[str, str] | None = None
) -> str:
    """Returns the page of a package: its `web/page.html` with style, scripts and data filled in.

    Args:
        package: Package whose directory `web` has the files.
        scripts: Names of its scripts, in order; `unpack.js` precedes them.
        title: Title of the page as plain text.
        data: Packed data, from `pack`.
        files: Names of further files by the placeholder that they fill.
    """

    def read(name: str, package: str = package) -> str:
        return resources.files(package).joinpath("web", name).read_text(encoding="utf-8")

    parts = {
        "title": html.escape(title),
        "style": read("style.css"),
        "data": data,
        "scripts": "\n".join([read("unpack.js", "evoconn_cli.drawing"), *map(read, scripts)]),
        **{placeholder: read(name) for placeholder, name in (files or {}).items()},
    }
    # In one pass, so that placeholders within parts stay as they are.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], read("page.html"))


def pack(
    header: Mapping[str, Any], name: str, groups: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]
) -> str:
    """Returns data for `unpack.js`: length of the header, the header as JSON, then the arrays aligned to 4 bytes.

    Args:
        header: Other values that the page needs, as JSON values.
        name: Name of the list of groups in the header.
        groups: Per group its facts, as JSON values, and its arrays, of `ARRAY_TYPES`.

    Raises:
        TypeError: An array has another type.
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
    # The offset of the first array is in the header and depends on its length, so it has a fixed width.
    text = json.dumps({"start": "#" * 8, **header, "packed": name, name: described}, allow_nan=False).encode()
    start = (4 + len(text) + 3) // 4 * 4
    text = text.replace(b'"########"', f"{start:10d}".encode(), 1)
    padding = bytes(start - 4 - len(text))
    packed = gzip.compress(b"".join([len(text).to_bytes(4, "little"), text, padding, *chunks]), mtime=0)
    return base64.b64encode(packed).decode("ascii")
