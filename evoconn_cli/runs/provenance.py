"""Records where the numbers of a run come from: command line, versions, devices, commit."""

from __future__ import annotations

import functools
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from evoconn_cli.errors import printable

_PACKAGES = ("evoconn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "brax", "numpy", "wandb")
_DECIDING = ("evoconn", "jax", "jaxlib", "brax")
"""Packages whose version may change how arithmetic rounds."""

_SECRETS = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
"""Names of environment variables whose values are secret."""

_MIN_LENGTH = 8
"""Shorter values are words that may occur by chance."""


def start_facts(devices: str, arithmetic: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Returns the facts of this start: command line, versions, devices, commit, and SLURM's job number, if any.

    Args:
        devices: Description of the devices.
        arithmetic: Environment variables that may change how they round.
    """
    return {
        "command": without_secrets(shlex.join([*_program(), *map(without_folders, sys.argv[1:])])),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "devices": devices,
        "python": sys.version.split()[0],
        "versions": versions(),
        "arithmetic": {name: without_folders(value) for name, value in arithmetic.items()},
        **checkout_facts(Path(__file__).parents[2]),
        **({"slurm_job": job} if (job := os.environ.get("SLURM_JOB_ID")) else {}),
    }


def _program() -> list[str]:
    """Returns the words that start this program: `evoconn`, or those of a script or notebook that uses it."""
    name = Path(sys.argv[0]).name
    return ["evoconn"] if name in ("evoconn", "__main__.py") else ["python", *([name] if name else [])]


@functools.cache
def checkout_facts(root: Path) -> dict[str, Any]:
    """Returns the commit of the checkout in `root`, and whether its files differ from it; both None without one."""
    if not (root / ".git").exists():
        return {"git_commit": None, "git_dirty": None}
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": _git(root, "rev-parse", "HEAD"), "git_dirty": None if changes is None else bool(changes)}


def _git(root: Path, *arguments: str) -> str | None:
    """Returns the output of git about a checkout, None if it fails."""
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    # In a hook, GIT_DIR and other variables name the repository of the hook.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def without_secrets(text: str, *values: str) -> str:
    """Returns `text` without secrets.

    Args:
        text: Any text.
        values: Secrets, besides environment variables named as such and logins in addresses.
    """
    named = {value: f"[{name}]" for name, value in os.environ.items() if _SECRETS.search(name)}
    found = {**dict.fromkeys(values, "[key]"), **named}
    for value in sorted(found, key=len, reverse=True):  # one may be a part of another
        if len(value) >= _MIN_LENGTH:
            text = text.replace(value, found[value])
    return re.sub(r"//[^/@\s]+@", "//", text)


def without_folders(text: str) -> str:
    """Returns `text` with each absolute path cut to its last part, so that runs can be shared."""
    return re.sub(r"""(?<![^\s=,;"'(\[{])/+(?:[^/,;"')\]}]+/+)*(?=[^/\s])""", "", text)


def versions() -> dict[str, str | None]:
    """Returns the versions of this package and those it computes with, None for those that are not installed."""
    return {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def what_changed(before: dict[str, Any], now: dict[str, Any], plugins: Sequence[str] = ()) -> str | None:
    """Returns a message about changes that may round otherwise than the run did so far; None if none are known.

    Args:
        before: Facts of an earlier start, from `start_facts`, and its kernel.
        now: Facts of this start.
        plugins: What has changed about plug-ins.
    """
    then, versions = before.get("versions"), now["versions"]
    changes = [*plugins]
    changes += [
        f"{name} was {then[name]} and is {versions[name]} now"
        for name in _DECIDING
        if isinstance(then, dict) and then.get(name) not in (None, versions[name])
    ]
    kinds = [str(facts.get("devices") or "").partition(" x ")[2] for facts in (before, now)]
    if all(kinds) and kinds[0] != kinds[1]:
        changes.append(f"it ran on {kinds[0]}, now on {kinds[1]}")
    kernels = [facts.get("kernel") for facts in (before, now)]
    if all(kernels) and kernels[0] != kernels[1]:
        changes.append(f"its sub-steps were computed by {kernels[0]}, now by {kernels[1]}")
    settings = [given for facts in (before, now) if isinstance(given := facts.get("arithmetic"), dict)]
    if len(settings) == 2 and settings[0] != settings[1]:
        then, today = (" ".join(f"{k}={v}" for k, v in given.items()) or "none" for given in settings)
        changes.append(f"variables that change how devices round were {then} and are {today} now")
    if not changes:
        return None
    return f"{printable('; '.join(changes))}: the run resumes, but is no longer reproducible to the last bit."
