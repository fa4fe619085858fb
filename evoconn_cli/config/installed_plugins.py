"""Finds the plug-ins of installed packages by their entry points, without importing any of them."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "evoconn.plugins"
"""Group of their entry points, which are named such as `task.point_mass` and name a module."""


@functools.cache
def installed_plugins() -> dict[str, list[EntryPoint]]:
    """Returns the entry points by their names, such as `task.point_mass`."""
    if not _is_any_installed():
        return {}
    from importlib import metadata

    found: dict[str, list[EntryPoint]] = {}
    for point in metadata.entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    return found


def _is_any_installed() -> bool:
    """Returns whether a package may have such entry points; to import importlib.metadata takes ten times as long."""
    for folder in dict.fromkeys(sys.path):
        try:
            packages = [e.path for e in os.scandir(folder or ".") if e.name.endswith((".dist-info", ".egg-info"))]
        except OSError:
            continue
        for package in packages:
            try:
                with open(os.path.join(package, "entry_points.txt"), "rb") as file:
                    if GROUP.encode() in file.read():
                        return True
            except OSError:
                continue
    return False


def package_of(point: EntryPoint) -> str:
    """Returns the name and the version of the package that an entry point is of."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.module
