"""Formats Markdown that renders alike on the site and in repository browsers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NOTE = "<!-- Written by `make docs` from the code. Do not edit. -->\n\n"
"""First line of a generated page."""


def code(text: str) -> str:
    """Returns `text` as code; one with a `|`, which would end the cell of a table, is written as HTML."""
    if "|" not in text:
        return f"`{text}`" if text else ""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "&#124;")
    return f"<code>{escaped}</code>"


def prose(text: str) -> str:
    """Returns a sentence of the code as prose: nothing in it is taken for HTML, a link or the end of a cell."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("*", "&#42;")):
        text = text.replace(character, entity)
    return text.replace("[", "\\[").replace("]", "\\]").replace("_", "\\_")


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table; columns that are empty in every row are left out."""
    rows = list(rows)
    kept = [index for index in range(len(titles)) if any(row[index] for row in rows)]
    lines = [[titles[index] for index in kept], ["---"] * len(kept), *([row[index] for index in kept] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
