"""Tracks runs with Weights & Biases, without ever prompting, printing or ending a training."""

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
from types import MappingProxyType
from typing import Any

from evoconn_cli.config.schema import RunConfig
from evoconn_cli.errors import ConfigError
from evoconn_cli.output import replace_text
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.guarded import output_discarded, process_hooks_kept, reason_of, within
from evoconn_cli.training.histograms import Histogram
from evoconn_cli.training.wandb_account import choose_mode, find_api_key, is_mode

INIT_TIMEOUT = 20.0  # [s] for W&B's server to answer
CALL_TIMEOUT = 60.0  # [s] for any call into the library, including the start of its service

SILENT: dict[str, Any] = dict(silent=True, quiet=True, console="off")
RUN_SETTINGS: dict[str, Any] = dict(
    **SILENT,
    disable_code=True,
    disable_git=True,  # run.json has the commit; a remote's address may hold a password
    x_disable_meta=True,  # it holds paths of this machine; the rest is in the facts of the start
    init_timeout=INIT_TIMEOUT,
    finish_timeout=CALL_TIMEOUT / 2,
    finish_timeout_raises=True,
    symlink=False,
    reinit="create_new",
)


class Tracker:
    """A further record of the metrics of a run, besides its own files; this class records nothing.

    Attributes:
        run_id: Id to pass back on resume; None if nothing is tracked.
        is_recording: Whether anything is recorded now.
    """

    is_recording = False

    def __init__(self, run_id: str | None = None) -> None:
        self.run_id = run_id

    def log(self, metrics: Mapping[str, Any], generation: int) -> None:
        """Records the metrics of one generation; those that are None are left out."""

    def log_histograms(self, histograms: Mapping[str, Histogram], generation: int) -> None:
        """Records histograms by name, after the metrics of the same generation."""

    def log_video(self, path: Path, generation: int) -> None:
        """Records a video of a generation, perhaps an earlier one than the last that was recorded."""

    def finish(self, exit_code: int = 0) -> None:
        """Closes the record of the run, marked as failed unless `exit_code` is 0."""


class WandbTracker(Tracker):
    """A W&B run that turns itself off, with one note, at the first call that fails.

    Args:
        run: Run of wandb.
        run_id: Its id.
        run_dir: Directory of the run that is tracked.
        note: Called with messages for the user.
        sync: Command that uploads what was not uploaded.

    Attributes:
        run: Run of wandb; None after a call that failed.
    """

    def __init__(self, run: Any, run_id: str, *, run_dir: Path, note: Callable[[str], None], sync: str) -> None:
        super().__init__(run_id)
        # If a resumed run repeats generations, W&B's own step keeps counting; curves over generations coincide.
        run.define_metric("*", step_metric="generation")
        self.run: Any = run
        self._note = note
        self._run_dir = run_dir
        self._sync = sync
        self._generation = 0

    @property
    def is_recording(self) -> bool:
        """Whether no call has failed."""
        return self.run is not None

    def log(self, metrics: Mapping[str, Any], generation: int) -> None:
        """Records the metrics of one generation; those that are None are left out."""
        known = {name: value for name, value in metrics.items() if value is not None}
        self._log(lambda: known, generation)
        self._generation = generation

    def log_histograms(self, histograms: Mapping[str, Histogram], generation: int) -> None:
        """Records histograms by name, in the row of the generation."""
        import wandb

        values = {name: (one.counts, one.edges) for name, one in histograms.items()}
        self._log(lambda: {name: wandb.Histogram(np_histogram=one) for name, one in values.items()}, generation)

    def log_video(self, path: Path, generation: int) -> None:
        """Records a video in the row of the last generation, since W&B takes no earlier ones; its caption is right."""
        import wandb

        caption = f"generation {generation}"
        self._log(lambda: {"training_video": wandb.Video(str(path), caption=caption)}, self._generation)

    def finish(self, exit_code: int = 0) -> None:
        """Closes the record of the run, marked as failed unless `exit_code` is 0."""
        self._guarded(lambda run: run.finish(exit_code=exit_code), "W&B did not take all records")
        self.run = None
        _tear_down()
        _cut_paths_in_logs(self._run_dir)

    def _log(self, make: Callable[[], Mapping[str, Any]], generation: int) -> None:
        self._guarded(lambda run: run.log(make(), step=generation), "W&B stopped recording")

    def _guarded(self, call: Callable[[Any], None], failure: str) -> None:
        if (run := self.run) is None:
            return
        try:
            within(CALL_TIMEOUT, lambda: call(run))
        except Exception as error:
            self.run = None
            self._note(f"{failure} ({reason_of(error)}); metrics.jsonl is complete. To upload the rest: {self._sync}")


def valid_run_id(run_id: object) -> str | None:
    """Returns `run_id` if it is valid, else None: W&B names files after it, and run.json may be from a stranger."""
    return run_id if isinstance(run_id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", run_id) else None


def place_of(run_id: str, run_dir: Path) -> list[str]:
    """Returns two marks of the directory of a W&B run, of which a copy has neither.

    A directory that is moved keeps its inode, and one that is restored from a backup keeps its path.
    """
    path = hashlib.sha256(f"{run_id} {run_dir.resolve()}".encode(errors="surrogateescape")).hexdigest()
    return [path[:16], str(run_dir.stat().st_ino)]


def is_copy(facts: Mapping[str, Any], run_dir: Path) -> bool:
    """Returns whether a directory is a copy of the one whose W&B run its facts name; False if they do not tell.

    Args:
        facts: Entries of run.json.
        run_dir: Directory of that file.
    """
    run_id, place = valid_run_id(facts.get("wandb_id")), facts.get("wandb_place")
    if run_id is None or not isinstance(place, list) or not place:
        return False
    return not set(map(str, place)) & set(place_of(run_id, run_dir))


def track_run(
    directory: RunDirectory, config: RunConfig, note: Callable[[str], None], start: Mapping[str, Any]
) -> Tracker:
    """Returns the tracker of a run that is trained, in the W&B run that run.json names, if any.

    Args:
        directory: Directory of the run, in which the id of the W&B run is recorded.
        config: Configuration of the run.
        note: Called with messages for the user.
        start: Facts of this start, recorded with the configuration.

    Raises:
        RunDirectoryError: run.json cannot be written.
    """
    facts = directory.read_facts()
    run_id = facts.get("wandb_id")
    if is_copy(facts, directory.path):
        run_id = None
        note("this run directory is a copy, so it does not go on in the W&B run of the original.")
    tracker = open_tracker(config, directory.path, run_id, note, start=start)
    place = place_of(tracker.run_id, directory.path) if tracker.run_id else None
    directory.update_facts(wandb_id=tracker.run_id, wandb_place=place)
    return tracker


def open_tracker(
    config: RunConfig,
    run_dir: Path,
    run_id: object,
    note: Callable[[str], None],
    *,
    start: Mapping[str, Any] = MappingProxyType({}),
) -> Tracker:
    """Returns the tracker that `config.tracking` asks for; it records into `run_dir`/wandb.

    Without credentials, or without an answer from the server, the run is recorded offline. Any other failure turns
    tracking off. Either way `note` is called once, and nothing is raised.

    Args:
        config: Configuration of the run, recorded with it.
        run_dir: Directory of the run.
        run_id: Id of the W&B run to continue; if it is not valid, a new one begins.
        note: Called with messages for the user.
        start: Facts of this start, recorded with the configuration.
    """
    known = valid_run_id(run_id)
    try:
        mode = choose_mode(config.tracking.wandb, os.environ)
        if mode == "disabled":
            return Tracker(known)
        with process_hooks_kept():
            return _open_wandb(config, run_dir, note, known=known, mode=mode, start=start)
    except Exception as error:
        note(f"W&B is off for this run ({reason_of(error)}). Silence this with tracking.wandb=disabled.")
        return Tracker(known)


def _open_wandb(
    config: RunConfig,
    run_dir: Path,
    note: Callable[[str], None],
    *,
    known: str | None,
    mode: str,
    start: Mapping[str, Any],
) -> Tracker:
    if not is_mode(os.environ.get("WANDB_MODE", "online")):
        del os.environ["WANDB_MODE"]  # W&B would refuse to start, and the configuration decides
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
        return WandbTracker(run, run_id, run_dir=run_dir, note=note, sync=_sync_command(run_dir, mode))

    # Silent for the whole process, because `wandb.init` prints about credentials before it reads its own settings.
    silent = wandb.Settings(**SILENT)
    reason = None
    with output_discarded(2):  # the service writes there if it cannot write its log
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
                _tear_down()  # its service would still hold the run id
                within(CALL_TIMEOUT, lambda: wandb.setup(settings=silent))
        tracker = within(CALL_TIMEOUT, lambda: init("offline"))
    if reason is not None:
        command = _sync_command(run_dir, "offline")
        note(f"W&B: {reason}, so this run is recorded offline. To upload it, after `wandb login`: {command}")
    return tracker


def _sync_command(run_dir: Path, mode: str) -> str:
    """Returns the command that uploads what is recorded in `run_dir`, the parts of a run in their order."""
    which = "offline-run-*" if mode == "offline" else "run-*"
    return f"wandb sync {'' if mode == 'offline' else '--include-online '}{shlex.quote(str(run_dir))}/wandb/{which}"


def _cut_paths_in_logs(run_dir: Path) -> None:
    """Removes the path of the run directory from W&B's logs in it, so that it can be shared."""
    place = f"{run_dir.absolute()}/"
    for log in run_dir.glob("wandb/*/logs/debug.log"):
        with suppress(OSError, UnicodeDecodeError):
            text = log.read_text(encoding="utf-8")
            if place in text and not log.is_symlink():
                replace_text(log, text.replace(place, ""))


def _tear_down() -> None:
    """Stops wandb's service now, not in an exit handler that could hang or print."""
    import wandb

    with process_hooks_kept(), suppress(Exception):  # run.finish has saved every record that can be saved
        within(CALL_TIMEOUT, wandb.teardown)


_MEDIA = {".mp4": "Video", ".gif": "Video", ".html": "Html", ".png": "Image"}


def upload(directory: RunDirectory, config: RunConfig, path: Path, note: Callable[[str], None]) -> bool:
    """Uploads a video, page or picture as `video` of the W&B run's summary; returns whether that succeeded.

    The history is no place for it: its steps are generations, and a row of its own would block that of the next one.

    Args:
        directory: Directory of the run, whose run.json names the W&B run.
        config: Configuration of the run.
        path: File to upload.
        note: Called with one message for the user if it fails.
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

    def put() -> None:
        import wandb

        media = getattr(wandb, _MEDIA[path.suffix.lower()])
        tracker.run.summary["video"] = media(str(path))

    try:
        within(CALL_TIMEOUT, put)
    except Exception as error:
        note(f"W&B did not take the file ({reason_of(error)}); it is kept: {path}")
        return False
    finally:
        tracker.finish()
    return True
