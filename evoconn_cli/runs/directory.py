"""Creates, opens and finds run directories, and reads and writes their configuration and facts."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from evoconn_cli.config.formats import is_bundle
from evoconn_cli.config.loading import config_to_yaml, read_config, write_config
from evoconn_cli.config.plugin_records import changed_plugins, check_loaded, to_facts
from evoconn_cli.config.registry import pairs, zoo_names
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.errors import ConfigError, NoRunError, RunDirectoryError, UnreadableCheckpointError, program
from evoconn_cli.output import partial_path, place_problem, replace_text
from evoconn_cli.runs.provenance import what_changed


def saved_generations(checkpoints: Path) -> list[int]:
    """Returns the generations in the directory `checkpoints`, in order; none if it does not exist.

    Raises:
        UnreadableCheckpointError: the directory cannot be read.
    """
    try:
        return sorted(int(name) for name in os.listdir(checkpoints) if name.isdecimal())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UnreadableCheckpointError(f"cannot read {checkpoints}: {error.strerror}.") from None


def default_run_dir(config: RunConfig) -> Path:
    """Returns a directory under runs/ that does not exist yet, such as `hopper-ec-001` or `hopper-es-gru-012`.

    Its number follows the highest one of runs with that task, strategy and network, so that names are in the order of
    their starts. Two processes may get the same name: `RunDirectory.create` lets one of them have it.

    Raises:
        RunDirectoryError: runs/ cannot be read.
    """
    kind = [config.task.name, config.algo.name]
    if config.network.name != pairs()[config.algo.name][0]:
        kind.append(config.network.name)
    name, runs = "-".join(kind), Path("runs")
    with readable(runs), suppress(FileNotFoundError, NotADirectoryError):
        taken = [re.fullmatch(rf"{re.escape(name)}-([0-9]{{1,9}})", other) for other in os.listdir(runs)]
        return runs / f"{name}-{max((int(match[1]) for match in taken if match), default=0) + 1:03d}"
    return runs / f"{name}-001"


class RunDirectory:
    """The directory of one run.

    Attributes:
        path: Absolute path of the directory.
    """

    def __init__(self, path: Path):
        self.path = path.absolute()
        self.config_file = self.path / "config.yaml"
        self.facts_file = self.path / "run.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.set_aside = self.path / "set-aside"
        self.lock_file = self.path / "lock"
        self.init_file = self.path / "init.npz"

    @classmethod
    def create(cls, path: Path, config: RunConfig, facts: dict[str, Any], init: bytes | None = None) -> RunDirectory:
        """Returns a new run directory, created atomically; an empty directory that exists is filled.

        Args:
            path: The directory.
            config: Configuration of the run.
            facts: Content of run.json.
            init: Content of init.npz, for a run that starts from a connectome.

        Raises:
            RunDirectoryError: it is not empty or cannot be written.
        """
        run, facts = cls(path), facts | to_facts(config)
        run.check_new()
        try:
            if run.path.exists():
                run._fill(config, facts, init)
            else:
                run.path.parent.mkdir(parents=True, exist_ok=True)
                with partial_path(run.path, directory=True) as partial:
                    write_config(config, partial / run.config_file.name)
                    if init is not None:
                        (partial / run.init_file.name).write_bytes(init)
                    (partial / run.facts_file.name).write_text(_to_json(facts), encoding="utf-8")
                    partial.rename(run.path)
        except OSError as error:
            run.check_new()  # another process may have been faster
            raise RunDirectoryError(f"cannot create {run.path}: {error.strerror}. Name another --run-dir.") from None
        return run

    def _fill(self, config: RunConfig, facts: dict[str, Any], init: bytes | None) -> None:
        """Writes into the existing directory, which keeps owner and mode; config.yaml makes it a run."""
        with self.facts_file.open("x", encoding="utf-8") as file:  # only one process succeeds
            file.write(_to_json(facts))
        try:
            if init is not None:
                self.init_file.write_bytes(init)
            replace_text(self.config_file, config_to_yaml(config))
        except OSError:
            self.facts_file.unlink()
            self.init_file.unlink(missing_ok=True)
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
                raise RunDirectoryError(f"no run directory at {path}: there is no such directory. {_where(path)}")
            if is_bundle(path):
                raise RunDirectoryError(
                    f"{path} is a bundle, which has no training. To start a run from it: {program()} train --init "
                    f"{shlex.quote(str(path))}"
                )
            if not run.config_file.is_file():
                to_list = f"To see the runs in it: {program()} runs {shlex.quote(str(path))}"
                raise RunDirectoryError(f"{path} is not a run directory: it has no {run.config_file.name}. {to_list}")
        return run

    def check_new(self) -> None:
        """Checks that the directory can be created.

        Raises:
            RunDirectoryError: it is not empty, cannot be written, or its name cannot be used.
        """
        self._check_name()
        with readable(self.path):
            occupied = self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))
        if occupied and self.config_file.exists():  # in this order, because a run appears at once
            facts = {}
            with suppress(RunDirectoryError):
                facts = self.read_facts()
            raise RunDirectoryError(
                f"the run directory {self.path} exists already, made by process {facts.get('pid', '?')} on "
                f"{facts.get('host', '?')}. To resume it: {program()} resume {shlex.quote(str(self.path))}. "
                "For a new run, name another --run-dir."
            )
        if occupied:
            raise RunDirectoryError(f"{self.path} exists already and is not empty. Name another --run-dir.")
        if problem := place_problem(self.config_file):
            raise RunDirectoryError(f"cannot create {self.path}: {problem}. Name another --run-dir.")

    def check_stays_inside(self) -> None:
        """Checks that a training writes nowhere but in the directory of its run.

        Raises:
            RunDirectoryError: a part of it is a symbolic link, or its name cannot be used.
        """
        self._check_name()
        written = [self.path / "wandb", self.path / "tensorboard"]  # besides what this class names
        for entry in (self.checkpoints, self.set_aside, self.metrics_file, *written):
            if entry.is_symlink():
                raise RunDirectoryError(
                    f"{entry} is a symbolic link, and a training writes only in the directory of its run. Replace the "
                    "link with what it points to; only the run directory as a whole may be a link."
                )

    def _check_name(self) -> None:
        """Refuses names with which Orbax fails or, if they contain brackets, saves empty checkpoints."""
        name = os.fspath(self.path)
        surrogates, raw = any("\ud800" <= c <= "\udfff" for c in name), os.fsencode(name)
        if surrogates and raw.decode(errors="ignore").encode() == raw:
            raise RunDirectoryError(
                f"checkpoints cannot be saved in {name}: the locale encodes file names as {sys.getfilesystemencoding()}"
                ", and this one is UTF-8. Set LC_ALL=C.UTF-8 or PYTHONUTF8=1, or name another directory."
            )
        if "[" in name or surrogates:
            raise RunDirectoryError(
                f"checkpoints cannot be saved in {name}: Orbax cannot handle a path that contains '[' or is not UTF-8. "
                "Name another directory."
            )

    def last_saved_generation(self) -> int:
        """Returns the newest generation in the checkpoint store, 0 if nothing is saved.

        Raises:
            UnreadableCheckpointError: the store cannot be read.
        """
        return max(saved_generations(self.checkpoints), default=0)

    def short_path(self) -> str:
        """Returns the path as the user would type it: relative if the directory is below the current one."""
        try:
            relative = str(self.path.relative_to(Path.cwd()))
        except (ValueError, FileNotFoundError):  # the latter if the current directory was removed
            return str(self.path)
        return f"./{relative}" if relative.startswith(("-", "~")) else relative

    def read_config(self) -> RunConfig:
        """Returns the configuration of the run.

        Raises:
            ConfigError: it is not valid, or uses a plug-in that is not loaded; the message names the file.
            NoRunError: it belongs to another program, and the directory has no other file of a run.
            RunDirectoryError: this user may not read it.
        """
        try:
            self.config_file.open("rb").close()
        except PermissionError as error:
            raise RunDirectoryError(f"cannot read {self.config_file}: {error.strerror}.") from None
        except OSError:
            pass  # `read_config` says why
        check_loaded(self.read_facts(), f"the run {self.short_path()}")
        try:
            return read_config(self.config_file)
        except ConfigError as error:
            if not (self.facts_file.exists() or self.checkpoints.exists()):
                raise NoRunError(
                    f"{self.path} is not a run of evoconn: its config.yaml belongs to another program."
                ) from None
            raise ConfigError(f"{self.config_file} is not the configuration of a run: {error}") from None

    def write_config(self, config: RunConfig) -> None:
        """Replaces the configuration of the run.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        self._replace(self.config_file, config_to_yaml(config))

    def read_facts(self) -> dict[str, Any]:
        """Returns the content of run.json; nothing if it is missing or damaged, because a run does not depend on it.

        Raises:
            RunDirectoryError: this user may not read it, and so must not replace it.
        """
        return read_object(self.facts_file)

    def update_facts(self, **facts: Any) -> None:
        """Replaces the given entries of run.json.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        self._replace(self.facts_file, _to_json({**self.read_facts(), **facts}))

    def record_start(self, now: dict[str, Any], config: RunConfig) -> str | None:
        """Adds the facts of this start to run.json.

        Args:
            now: The facts.
            config: Configuration of the run.

        Returns:
            A message about what has changed since the previous start; None if nothing is known to have changed.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        facts, now = self.read_facts(), now | to_facts(config)
        if facts.get("status") == "created":
            self.update_facts(**now, status="running", ended=None)
            return None
        resumed = facts.get("resumed")
        starts = [start for start in resumed if isinstance(start, dict)] if isinstance(resumed, list) else []
        self.update_facts(resumed=[*starts, now], status="running", ended=None)
        return what_changed(starts[-1] if starts else facts, now, changed_plugins(facts, config))

    def _replace(self, file: Path, text: str) -> None:
        try:
            replace_text(file, text)
        except OSError as error:
            raise RunDirectoryError(f"cannot write {file}: {error.strerror}.") from None


def locate(path: Path) -> tuple[Path, int | None]:
    """Returns the run directory that `path` belongs to, and the generation if it names one.

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
            raise RunDirectoryError(f"no run at {path}: there is no such file or directory. {_where(path)}")
        if is_bundle(whole):
            raise NoRunError(f"{path} is an exported bundle, which has no training. Name the run that it comes from.")
        if not (whole / "config.yaml").is_file():
            if runs := next((below for below in ("*", "*/*") if any(whole.glob(f"{below}/run.json"))), ""):
                raise NoRunError(f"{path} is not a run, but holds runs. Name those: {path / runs}")
            owner = next((parent for parent in whole.parents if (parent / "config.yaml").is_file()), None)
            hint = (
                f"It is inside the run {owner}: name that, its checkpoints directory, or one step in there."
                if owner and (owner / "checkpoints").is_dir()
                else "Name a directory that `evoconn train` made, its checkpoints directory, or one step in there; "
                "checkpoints can only be read with the run's config.yaml, so keep them together."
            )
            raise NoRunError(f"{path} is not a run or a checkpoint of evoconn. {hint}")
        return whole, None


def _where(path: Path) -> str:
    """Returns a hint for a `path` that does not exist."""
    near = Path("runs") / path.name
    if path.name and near.is_dir():
        return f"Did you mean {near}?"
    return f"Did you mean zoo:{path.name}?" if path.name in zoo_names() else "`evoconn train` makes runs under runs/."


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns an error of the file system about `path` into a message."""
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(f"cannot access {path}: {error.strerror}.") from None


def read_object(file: Path) -> dict[str, Any]:
    """Returns the object in a JSON file, empty if the file is missing or damaged.

    Raises:
        RunDirectoryError: this user may not read it.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise RunDirectoryError(f"cannot read {file}: {error.strerror}.") from None
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _to_json(facts: dict[str, Any]) -> str:
    return json.dumps(facts, indent=2) + "\n"
