"""Lets a checkout be installed without a C++ compiler."""

from __future__ import annotations

from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface


class StandIn(MetadataHookInterface):
    """Meets Brax's requirement of pytinyrenderer, which has no wheels from Python 3.12 on, with an empty package.

    Only in a checkout: the metadata of a wheel that is built from an sdist, as `python -m build` does, must not name a
    folder of the machine that built it.
    """

    def update(self, metadata: dict) -> None:
        """Adds the requirement to `dependencies`."""
        if not Path(self.root, "PKG-INFO").exists():
            folder = Path(self.root, "tools/packaging/pytinyrenderer").as_uri()
            metadata["dependencies"].append(f"pytinyrenderer @ {folder} ; python_version >= '3.12'")
