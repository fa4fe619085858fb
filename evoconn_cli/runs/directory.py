"""A run directory: where its files are, and the facts about the run that are not configuration."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from evoconn_cli.config.loading import config_to_yaml, read_config, write_config
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.errors import RunDirectoryError
from evoconn_cli.runs.atomic import replace_text

_PACKAGES = ("evoconn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "brax", "numpy", "wandb")


class RunDirectory:
    """The directory of one run.

    Attributes:
        path: absolute path of the directory.
    """

    def __init__(self, path: Path):
        self.path = path.absolute()
        self.config_file = self.path / "config.yaml"
        self.facts_file = self.path / "run.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"

    @classmethod
    def create(cls, path: Path, config: RunConfig, facts: dict[str, Any]) -> RunDirectory:
        """Returns a new run directory, which appears whole or not at all.

        Raises:
            RunDirectoryError: it exists already, or cannot be written.
        """
        run = cls(path)
        run.check_new()
        try:
            run.path.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{run.path.name}-", dir=run.path.parent))
        except OSError as error:
            raise _cannot_write(run.path, error) from None
        try:
            partial.chmod(0o755)
            write_config(config, partial / run.config_file.name)
            (partial / run.facts_file.name).write_text(_to_json(facts), encoding="utf-8")
            partial.rename(run.path)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise _cannot_write(run.path, error) from None
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Returns the run directory at `path`.

        Raises:
            RunDirectoryError: there is none.
        """
        run = cls(path)
        if not run.path.is_dir():
            raise RunDirectoryError(f"no run directory at {path}: there is no such directory.")
        if not run.config_file.is_file():
            raise RunDirectoryError(f"{path} is not a run directory: it has no {run.config_file.name}.")
        return run

    def check_new(self) -> None:
        """Checks that the directory can be created.

        Raises:
            RunDirectoryError: it exists already, or its parent cannot be written.
        """
        if self.config_file.exists():
            raise RunDirectoryError(
                f"the run directory {self.path} exists already. To go on with it: evoconn resume "
                f"{shlex.quote(str(self.path))}. For a new run name another --run-dir."
            )
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise RunDirectoryError(f"{self.path} exists already and is not empty. Name another --run-dir.")
        parent = next(parent for parent in self.path.parents if parent.exists())
        if not parent.is_dir():
            raise RunDirectoryError(f"cannot create {self.path}: {parent} is a file. Name another --run-dir.")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise RunDirectoryError(f"cannot create {self.path}: no permission to write in {parent}.")

    def last_saved_generation(self) -> int:
        """Returns the newest generation in the checkpoint store, 0 where nothing is saved."""
        saved = [int(path.name) for path in self.checkpoints.glob("*") if path.name.isdecimal()]
        return max(saved, default=0)

    def short_path(self) -> str:
        """Returns the path as the user would type it: relative where the directory is below the current one."""
        try:
            return str(self.path.relative_to(Path.cwd()))
        except ValueError:
            return str(self.path)

    def read_config(self) -> RunConfig:
        """Returns the configuration of the run.

        Raises:
            ConfigError: the file was edited into something that is not a configuration.
        """
        return read_config(self.config_file)

    def write_config(self, config: RunConfig) -> None:
        """Replaces the configuration of the run.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        self._replace(self.config_file, config_to_yaml(config))

    def read_facts(self) -> dict[str, Any]:
        """Returns what run.json holds; nothing where it cannot be read, since a run does not depend on it."""
        try:
            facts = json.loads(self.facts_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def update_facts(self, **facts: Any) -> None:
        """Replaces the given entries of run.json.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        self._replace(self.facts_file, _to_json({**self.read_facts(), **facts}))

    def _replace(self, file: Path, text: str) -> None:
        try:
            replace_text(file, text)
        except OSError as error:
            raise RunDirectoryError(f"cannot write {file}: {error.strerror}.") from None


def default_run_dir(config: RunConfig) -> Path:
    """Returns a directory under runs/ that does not exist yet, named by what is trained."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{config.task.name}-{config.algo.name}-{config.network.name}-seed{config.seed}-{stamp}"
    path, number = Path("runs") / name, 2
    while path.exists():
        path, number = Path("runs") / f"{name}-{number}", number + 1
    return path


def start_facts(devices: str) -> dict[str, Any]:
    """Returns the facts of this start: command line, versions, devices, commit."""
    return {
        "command": shlex.join(["evoconn", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": os.uname().nodename if hasattr(os, "uname") else "",
        "pid": os.getpid(),
        "devices": devices,
        "python": sys.version.split()[0],
        "versions": {name: _version(name) for name in _PACKAGES},
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Returns the commit of the checkout that this package runs from, None where it is installed."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _to_json(facts: dict[str, Any]) -> str:
    return json.dumps(facts, indent=2) + "\n"


def _cannot_write(path: Path, error: OSError) -> RunDirectoryError:
    return RunDirectoryError(f"cannot create {path}: {error.strerror}. Name another --run-dir.")
