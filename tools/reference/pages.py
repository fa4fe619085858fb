"""Writes the generated pages of docs/."""

from __future__ import annotations

from pathlib import Path

from tools.reference.commands import command_pages
from tools.reference.configuration import configuration_page


def generate_pages() -> dict[str, str]:
    """Returns the text of every generated page, by its path in docs/."""
    return {**command_pages(), "configuration.md": configuration_page()}


def write_pages(docs: Path) -> None:
    """Writes the generated pages into `docs`, and removes those of commands that no longer exist."""
    pages = generate_pages()
    (docs / "commands").mkdir(exist_ok=True)
    for path in (docs / "commands").glob("*.md"):
        if f"commands/{path.name}" not in pages:
            path.unlink()
    for name, text in pages.items():
        (docs / name).write_text(text, encoding="utf-8")
