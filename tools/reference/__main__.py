"""`python -m tools.reference`: writes the generated pages and sections of README.md and docs/."""

from __future__ import annotations

from tools.reference.figures import ROOT, pages_with_figures
from tools.reference.pages import write_pages

if __name__ == "__main__":
    write_pages(ROOT / "docs")
    for name, text in pages_with_figures().items():
        (ROOT / name).write_text(text, encoding="utf-8")
