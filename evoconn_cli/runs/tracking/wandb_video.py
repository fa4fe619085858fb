"""Uploading a video to the W&B run of a training, which may fail without any harm."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evoconn_cli.config.schema import RunConfig
from evoconn_cli.errors import ConfigError
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.guarded import reason_of, within
from evoconn_cli.runs.tracking.tracker import CALL_TIMEOUT, WandbTracker, is_copy, open_tracker, valid_run_id
from evoconn_cli.runs.tracking.wandb_account import choose_mode

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
