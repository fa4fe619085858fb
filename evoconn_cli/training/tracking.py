"""Weights & Biases logging, which never prompts, prints or ends a training."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import secrets
import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Protocol

from evoconn_cli.config.schema import RunConfig
from evoconn_cli.errors import ConfigError
from evoconn_cli.output import replace_text
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.guarded import output_discarded, process_hooks_kept, reason_of, within
from evoconn_cli.training.wandb_account import choose_mode, find_api_key, is_mode

INIT_TIMEOUT = 20.0  # [s] what W&B's server has to answer
CALL_TIMEOUT = 60.0  # [s] any call into the library, the start of its service included

SILENT: dict[str, Any] = dict(silent=True, quiet=True, console="off")
RUN_SETTINGS: dict[str, Any] = dict(
    **SILENT,
    disable_code=True,
    disable_git=True,  # run.json has the commit; a remote's address may hold a password
    x_disable_meta=True,  # it has the paths of this machine; what else it has is in the facts of the start
    init_timeout=INIT_TIMEOUT,
    finish_timeout=CALL_TIMEOUT / 2,
    finish_timeout_raises=True,
    symlink=False,
    reinit="create_new",
)


class Tracker(Protocol):
    """Where the metrics of a run go besides its own files."""

    @property
    def run_id(self) -> str | None:
        """The id to pass back on resume; None where nothing is tracked."""
        ...

    def log(self, metrics: Mapping[str, Any], generation: int) -> None:
        """Records the metrics of one generation; those that are None are left out."""
        ...

    def finish(self, exit_code: int = 0) -> None:
        """Closes the record of the run, marked as failed unless `exit_code` is 0."""
        ...


class NullTracker:
    """A tracker that records nothing."""

    def __init__(self, run_id: str | None = None) -> None:
        self.run_id = run_id

    def log(self, metrics: Mapping[str, Any], generation: int) -> None:
        """Does nothing."""

    def finish(self, exit_code: int = 0) -> None:
        """Does nothing."""


class WandbTracker:
    """A W&B run that turns itself off, with one note, at the first call that fails."""

    def __init__(
        self, wandb: ModuleType, run: Any, run_id: str, note: Callable[[str], None], run_dir: Path, sync: str
    ) -> None:
        self.run_id = run_id
        # W&B's own step goes on counting where a resumed run repeats generations; curves over this one do not.
        run.define_metric("*", step_metric="generation")
        self._wandb = wandb
        self._run = run
        self._note = note
        self._run_dir = run_dir
        self._sync = sync

    @property
    def run(self) -> Any:
        """The run of wandb; None after a call that failed."""
        return self._run

    def log(self, metrics: Mapping[str, Any], generation: int) -> None:
        """Records the metrics of one generation; those that are None are left out."""
        known = {name: value for name, value in metrics.items() if value is not None}
        self._guarded(lambda run: run.log(known, step=generation), "W&B stopped recording")

    def finish(self, exit_code: int = 0) -> None:
        """Closes the record of the run, marked as failed unless `exit_code` is 0."""
        self._guarded(lambda run: run.finish(exit_code=exit_code), "W&B did not take all records")
        self._run = None
        _tear_down(self._wandb)
        _cut_paths_in_logs(self._run_dir)

    def _guarded(self, call: Callable[[Any], None], failure: str) -> None:
        run = self._run
        if run is None:
            return
        try:
            within(CALL_TIMEOUT, lambda: call(run))
        except Exception as error:
            self._run = None
            self._note(f"{failure} ({reason_of(error)}); metrics.jsonl is complete. To upload the rest: {self._sync}")


def valid_run_id(run_id: object) -> str | None:
    """Returns `run_id` if it can be one: W&B names files after it, and run.json may be from a stranger."""
    return run_id if isinstance(run_id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", run_id) else None


def place_of(run_id: str, run_dir: Path) -> list[str]:
    """Returns what tells the directory of a W&B run from a copy: one of these is the same unless it was copied.

    A directory that is moved keeps its inode, one that is restored from a backup its path.
    """
    path = hashlib.sha256(f"{run_id} {run_dir.resolve()}".encode(errors="surrogateescape")).hexdigest()
    return [path[:16], str(run_dir.stat().st_ino)]


def is_copy(facts: Mapping[str, Any], run_dir: Path) -> bool:
    """Returns whether a directory is a copy of the one whose W&B run its facts name; False where they do not tell.

    Args:
        facts: Entries of run.json.
        run_dir: Directory in which that file is.
    """
    run_id, place = valid_run_id(facts.get("wandb_id")), facts.get("wandb_place")
    if run_id is None or not isinstance(place, list) or not place:
        return False
    return not set(map(str, place)) & set(place_of(run_id, run_dir))


def open_tracker(
    config: RunConfig,
    run_dir: Path,
    run_id: object,
    note: Callable[[str], None],
    start: Mapping[str, Any] = MappingProxyType({}),
) -> Tracker:
    """Returns the tracker that `config.tracking` asks for; it records into `run_dir`/wandb.

    Without credentials, or without an answer from the server, the run is recorded offline. Whatever else goes
    wrong turns the tracking off. Either way `note` is told once, and nothing is raised.

    Args:
        config: the configuration of the run, recorded with it.
        run_dir: directory of the run.
        run_id: id of the tracked run that goes on; a new one begins where that can be none.
        note: called with a sentence for the user.
        start: Facts of this start, recorded with the configuration.
    """
    known = valid_run_id(run_id)
    try:
        mode = choose_mode(config.tracking.wandb, os.environ)
        if mode == "disabled":
            return NullTracker(known)
        with process_hooks_kept():
            return _open_wandb(config, run_dir, known, note, mode, start)
    except Exception as error:
        note(f"W&B is off for this run ({reason_of(error)}). Silence this with tracking.wandb=disabled.")
        return NullTracker(known)


def _open_wandb(
    config: RunConfig,
    run_dir: Path,
    known: str | None,
    note: Callable[[str], None],
    mode: str,
    start: Mapping[str, Any],
) -> Tracker:
    if not is_mode(os.environ.get("WANDB_MODE", "online")):
        del os.environ["WANDB_MODE"]  # the configuration decides, and W&B would refuse to start
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it prints what it cannot send, and delays the exit
    import wandb

    run_id = known or secrets.token_hex(4)

    def init(mode: str, **more: Any) -> Tracker:
        run = wandb.init(
            project=config.tracking.project or settings.project or "evoconn",
            entity=config.tracking.entity,
            group=config.tracking.group,
            name=config.tracking.name or settings.run_name or run_dir.name,
            tags=[tag.strip() for tag in config.tracking.tags.split(",") if tag.strip()] or None,
            dir=str(run_dir),
            config={**dataclasses.asdict(config), **({"start": dict(start)} if start else {})},
            id=run_id,
            mode=mode,  # pyright: ignore[reportArgumentType]
            resume="allow",
            settings=wandb.Settings(**RUN_SETTINGS, **more),
        )
        return WandbTracker(wandb, run, run_id, note, run_dir, _sync_command(run_dir, mode))

    # Silent for the whole process: `wandb.init` prints about credentials before it reads its own settings.
    silent = wandb.Settings(**SILENT)
    reason = None
    with output_discarded(2):  # the service writes there where it has no place for its log
        settings = within(CALL_TIMEOUT, lambda: wandb.setup(settings=silent).settings)
        if mode != "offline":
            key = find_api_key(settings.base_url, os.environ)
            if not key and not os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
                reason = "no credentials"
            else:
                try:
                    return within(CALL_TIMEOUT, lambda: init("online", **({"api_key": key} if key else {})))
                except Exception as error:
                    reason = reason_of(error, *filter(None, [key]))
                _tear_down(wandb)  # its service would still hold the run id
                within(CALL_TIMEOUT, lambda: wandb.setup(settings=silent))
        tracker = within(CALL_TIMEOUT, lambda: init("offline"))
    if reason is not None:
        command = _sync_command(run_dir, "offline")
        note(f"W&B: {reason}, so this run is recorded offline. To upload it, after `wandb login`: {command}")
    return tracker


def _sync_command(run_dir: Path, mode: str) -> str:
    """Returns the command that uploads what is recorded in `run_dir`; several parts of a run go in their order."""
    which = "offline-run-*" if mode == "offline" else "run-*"
    return f"wandb sync {'' if mode == 'offline' else '--include-online '}{shlex.quote(str(run_dir))}/wandb/{which}"


def _cut_paths_in_logs(run_dir: Path) -> None:
    """Takes the place of the run directory out of W&B's logs in it, so that it can be shared."""
    place = f"{run_dir.absolute()}/"
    for log in run_dir.glob("wandb/*/logs/debug.log"):
        with suppress(OSError, UnicodeDecodeError):
            text = log.read_text(encoding="utf-8")
            if place in text and not log.is_symlink():
                replace_text(log, text.replace(place, ""))


def _tear_down(wandb: ModuleType) -> None:
    """Stops wandb's service now, not in an exit handler that could hang or print."""
    with process_hooks_kept():
        try:
            within(CALL_TIMEOUT, wandb.teardown)
        except Exception:
            pass  # every record that can be saved was saved by run.finish


_MEDIA = {".mp4": "Video", ".gif": "Video", ".html": "Html", ".png": "Image"}


def upload(directory: RunDirectory, config: RunConfig, path: Path, note: Callable[[str], None]) -> bool:
    """Puts a video, page or picture into the summary of the W&B run, as `video`; returns whether that was done.

    It is no part of the history, whose steps are generations: a row of its own would stand in the way of the next one.

    Args:
        directory: of the run, which knows the id of its W&B run.
        config: of the run.
        path: of the file.
        note: is called with one sentence for the user.
    """
    facts = directory.read_facts()
    run_id = valid_run_id(facts.get("wandb_id"))
    if run_id is None or is_copy(facts, directory.path):
        why = "was not tracked with W&B" if run_id is None else "is a copy, and W&B's run belongs to the original"
        note(f"--wandb: the run {why}, so nothing was uploaded.")
        return False
    try:
        mode = choose_mode(config.tracking.wandb, os.environ)
    except ConfigError as error:
        note(f"--wandb: {error}; nothing was uploaded.")
        return False
    if mode == "disabled":
        note("--wandb: tracking.wandb, the environment or W&B's settings have disabled W&B, so nothing was uploaded.")
        return False
    tracker = open_tracker(config, directory.path, run_id, note)
    if not isinstance(tracker, WandbTracker):
        return False
    try:
        within(CALL_TIMEOUT, lambda: _put(tracker.run, path))
    except Exception as error:
        note(f"W&B did not take the file ({reason_of(error)}); it is kept: {path}")
        return False
    finally:
        tracker.finish()
    return True


def _put(run: Any, path: Path) -> None:
    import wandb

    media = getattr(wandb, _MEDIA[path.suffix.lower()])
    run.summary["video"] = media(str(path))
