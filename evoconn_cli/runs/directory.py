"""A run directory: where its files are, and the facts about the run that are not configuration."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evoconn_cli.config.formats import is_bundle
from evoconn_cli.config.loading import config_to_yaml, read_config, write_config
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.errors import ConfigError, NoRunError, RunDirectoryError, UnreadableCheckpointError, program
from evoconn_cli.output import partial_path, place_problem, replace_text
from evoconn_cli.runs.provenance import what_changed


def saved_generations(checkpoints: Path) -> list[int]:
    """Returns the generations that the directory `checkpoints` holds, in order; none if it does not exist.

    Raises:
        UnreadableCheckpointError: the directory cannot be read.
    """
    try:
        return sorted(int(name) for name in os.listdir(checkpoints) if name.isdecimal())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UnreadableCheckpointError(f"cannot read {checkpoints}: {error.strerror}.") from None


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
        self.set_aside = self.path / "set-aside"
        self.lock_file = self.path / "lock"

    @classmethod
    def create(cls, path: Path, config: RunConfig, facts: dict[str, Any]) -> RunDirectory:
        """Returns a new run directory, which appears whole or not at all; one that exists and is empty is filled.

        Raises:
            RunDirectoryError: it holds something already, or cannot be written.
        """
        run = cls(path)
        run.check_new()
        try:
            if run.path.exists():
                run._fill(config, facts)
            else:
                run._appear(config, facts)
        except OSError as error:
            run.check_new()  # another process may have been quicker
            raise RunDirectoryError(f"cannot create {run.path}: {error.strerror}. Name another --run-dir.") from None
        return run

    def _appear(self, config: RunConfig, facts: dict[str, Any]) -> None:
        """Makes the directory under another name, and gives it its own when it is whole."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with partial_path(self.path, directory=True) as partial:
            write_config(config, partial / self.config_file.name)
            (partial / self.facts_file.name).write_text(_to_json(facts), encoding="utf-8")
            partial.rename(self.path)

    def _fill(self, config: RunConfig, facts: dict[str, Any]) -> None:
        """Writes into the directory as it is, with its owner and its mode; it is a run when it has config.yaml."""
        with self.facts_file.open("x", encoding="utf-8") as file:  # one process alone makes it
            file.write(_to_json(facts))
        try:
            replace_text(self.config_file, config_to_yaml(config))
        except OSError:
            self.facts_file.unlink()
            raise

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Returns the run directory at `path`.

        Raises:
            RunDirectoryError: there is none.
        """
        run = cls(path)
        with readable(path):
            if not run.path.is_dir():
                raise RunDirectoryError(
                    f"no run directory at {path}: there is no such directory. {where_runs_are(path)}"
                )
            if not run.config_file.is_file():
                raise RunDirectoryError(f"{path} is not a run directory: it has no {run.config_file.name}.")
        return run

    def check_new(self) -> None:
        """Checks that the directory can be created.

        Raises:
            RunDirectoryError: it holds something already, cannot be written, or its name cannot be used.
        """
        self._check_name()
        with readable(self.path):
            occupied = self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))
        if occupied and self.config_file.exists():  # asked in this order, since a run appears whole
            try:
                facts = self.read_facts()
            except RunDirectoryError:
                facts = {}
            raise RunDirectoryError(
                f"the run directory {self.path} exists already, made by process {facts.get('pid', '?')} on "
                f"{facts.get('host', '?')}. To go on with it: {program()} resume {shlex.quote(str(self.path))}. "
                "For a new run name another --run-dir."
            )
        if occupied:
            raise RunDirectoryError(f"{self.path} exists already and is not empty. Name another --run-dir.")
        if problem := place_problem(self.config_file):
            raise RunDirectoryError(f"cannot create {self.path}: {problem}. Name another --run-dir.")

    def check_stays_inside(self) -> None:
        """Checks that what a training writes stays in the directory of its run.

        Raises:
            RunDirectoryError: something in it is a symbolic link, or its name cannot be used.
        """
        self._check_name()
        for entry in (
            self.checkpoints,
            self.set_aside,
            self.metrics_file,
            self.path / "wandb",
            self.path / "tensorboard",
        ):
            if entry.is_symlink():
                raise RunDirectoryError(
                    f"{entry} is a symbolic link: a training writes nowhere but in the directory of its run. Move what "
                    "it points to in its place; the run directory as a whole may be a link."
                )

    def _check_name(self) -> None:
        """Refuses names with which Orbax fails, or, where there are brackets, saves empty checkpoints."""
        name = os.fspath(self.path)
        surrogates = any("\ud800" <= c <= "\udfff" for c in name)
        if surrogates and _is_utf8(os.fsencode(name)):
            raise RunDirectoryError(
                f"checkpoints cannot be saved in {name}: the locale has {sys.getfilesystemencoding()} for the names of "
                "files, and this one is UTF-8. Set LC_ALL=C.UTF-8 or PYTHONUTF8=1, or name another directory."
            )
        if "[" in name or surrogates:
            raise RunDirectoryError(
                f"checkpoints cannot be saved in {name}: a path with '[', or that is not UTF-8, is not safe with "
                "Orbax. Name another directory."
            )

    def last_saved_generation(self) -> int:
        """Returns the newest generation in the checkpoint store, 0 where nothing is saved.

        Raises:
            UnreadableCheckpointError: the store cannot be read.
        """
        return max(saved_generations(self.checkpoints), default=0)

    def short_path(self) -> str:
        """Returns the path as the user would type it: relative where the directory is below the current one."""
        try:
            relative = str(self.path.relative_to(Path.cwd()))
        except (ValueError, FileNotFoundError):  # the latter where the current directory was removed
            return str(self.path)
        return f"./{relative}" if relative.startswith(("-", "~")) else relative

    def read_config(self) -> RunConfig:
        """Returns the configuration of the run.

        Raises:
            ConfigError: it was edited into nonsense; the message names the file.
            NoRunError: it is of another program, and nothing else is here that a run has.
            RunDirectoryError: this user may not read it.
        """
        try:
            self.config_file.open("rb").close()
        except PermissionError as error:
            raise RunDirectoryError(f"cannot read {self.config_file}: {error.strerror}.") from None
        except OSError:
            pass  # `read_config` says why
        try:
            return read_config(self.config_file)
        except ConfigError as error:
            if not (self.facts_file.exists() or self.checkpoints.exists()):
                raise NoRunError(
                    f"{self.path} is not a run of evoconn: its config.yaml is of another program."
                ) from None
            raise ConfigError(f"{self.config_file} is not the configuration of a run: {error}") from None

    def write_config(self, config: RunConfig) -> None:
        """Replaces the configuration of the run.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        self._replace(self.config_file, config_to_yaml(config))

    def read_facts(self) -> dict[str, Any]:
        """Returns what run.json holds; nothing where it is missing or damaged, since a run does not depend on it.

        Raises:
            RunDirectoryError: this user may not read it, and so must not replace it.
        """
        try:
            facts = json.loads(self.facts_file.read_text(encoding="utf-8"))
        except PermissionError as error:
            raise RunDirectoryError(f"cannot read {self.facts_file}: {error.strerror}.") from None
        except (OSError, ValueError, RecursionError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def update_facts(self, **facts: Any) -> None:
        """Replaces the given entries of run.json.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        self._replace(self.facts_file, _to_json({**self.read_facts(), **facts}))

    def record_start(self, now: dict[str, Any]) -> str | None:
        """Adds the facts of this start to run.json.

        Returns:
            In words what has changed since the start before, None where nothing is known to.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        facts = self.read_facts()
        if facts.get("status") == "created":
            self.update_facts(**now, status="running")
            return None
        resumed = facts.get("resumed")
        starts = [start for start in resumed if isinstance(start, dict)] if isinstance(resumed, list) else []
        self.update_facts(resumed=[*starts, now], status="running")
        return what_changed(starts[-1] if starts else facts, now)

    def _replace(self, file: Path, text: str) -> None:
        try:
            replace_text(file, text)
        except OSError as error:
            raise RunDirectoryError(f"cannot write {file}: {error.strerror}.") from None


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns the error of looking at a `path` that this user may not look at into a message."""
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(f"cannot look at {path}: {error.strerror}.") from None


def where_runs_are(path: Path) -> str:
    """Returns a sentence for a `path` that does not exist: what may be meant."""
    near = Path("runs") / path.name
    return f"Did you mean {near}?" if path.name and near.is_dir() else "`evoconn train` makes runs under runs/."


def default_run_dir(config: RunConfig) -> Path:
    """Returns a directory under runs/ that does not exist yet, named by what is trained."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{config.task.name}-{config.algo.name}-{config.network.name}-seed{config.seed}-{stamp}"
    path, number = Path("runs") / name, 2
    while path.exists():
        path, number = Path("runs") / f"{name}-{number}", number + 1
    return path


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _to_json(facts: dict[str, Any]) -> str:
    return json.dumps(facts, indent=2) + "\n"


def locate(path: Path) -> tuple[Path, int | None]:
    """Returns the run directory that `path` belongs to, and the generation where it names one.

    Raises:
        NoRunError: it exists and is not part of a run.
        RunDirectoryError: it does not exist, or may not be looked at.
    """
    with readable(path):
        whole = path.absolute()
        step = int(whole.name) if whole.name.isdecimal() and whole.parent.name == "checkpoints" else None
        checkpoints = whole if step is None else whole.parent
        if checkpoints.name == "checkpoints" and (checkpoints.parent / "config.yaml").is_file():
            return checkpoints.parent, step
        if not whole.exists():
            raise RunDirectoryError(f"no run at {path}: there is no such file or directory. {where_runs_are(path)}")
        if is_bundle(whole):
            raise NoRunError(f"{path} is an exported bundle, which has no training. Name the run that it comes from.")
        if not (whole / "config.yaml").is_file():
            if runs := _runs_below(whole):
                raise NoRunError(f"{path} is not a run, but holds runs. Name those: {path / runs}")
            owner = next((parent for parent in whole.parents if (parent / "config.yaml").is_file()), None)
            hint = (
                f"It is inside the run {owner}: name that, its checkpoints directory, or one step in there."
                if owner and (owner / "checkpoints").is_dir()
                else "Name a directory that `evoconn train` made, its checkpoints directory, or one step in there; "
                "the run's config.yaml says how to read its checkpoints, so keep them together."
            )
            raise NoRunError(f"{path} is not a run or a checkpoint of evoconn. {hint}")
        return whole, None


def _runs_below(folder: Path) -> str:
    """Returns the pattern of the runs in a folder, such as that of a grid; empty if it holds none."""
    return next((below for below in ("*", "*/*") if any(folder.glob(f"{below}/run.json"))), "")
