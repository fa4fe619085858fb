"""`python -m tools.reference`: writes the generated pages of docs/."""

from __future__ import annotations

from pathlib import Path

from tools.reference.pages import write_pages

DOCS = Path(__file__).parents[2] / "docs"

if __name__ == "__main__":
    write_pages(DOCS)
