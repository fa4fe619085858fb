"""Going back to an earlier generation: what came later is set aside, not destroyed."""

from __future__ import annotations

import time
from pathlib import Path

from evoconn_cli.errors import RunDirectoryError
from evoconn_cli.runs.checkpoints.store import CheckpointStore
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.metrics import read_metrics, write_metrics


def set_aside_later(directory: RunDirectory, store: CheckpointStore, generation: int, *, discard: bool) -> str | None:
    """Moves checkpoints and metrics of generations beyond `generation` into a dated folder of `set-aside`.

    The newest checkpoint goes first: if the process dies on the way, the run is one that ended a little later than
    `generation`, and nothing is lost.

    Args:
        directory: of the run.
        store: of the run.
        generation: the last one that stays.
        discard: delete them instead.

    Returns:
        What was done, for the user; None where there was nothing to do.

    Raises:
        RunDirectoryError: it cannot be written.
    """
    checkpoints = [later for later in store.generations() if later > generation]
    lines = read_metrics(directory.metrics_file, after=generation)
    if not checkpoints and not lines:
        return None
    what = f"{len(checkpoints)} checkpoint{'s' * (len(checkpoints) != 1)} and {len(lines)} lines of metrics"
    try:
        if discard:
            for later in reversed(checkpoints):
                store.delete(later)
            return f"going back to generation {generation}; discarded: {what}."
        folder = _new_folder(directory.set_aside)
        write_metrics(lines, folder / directory.metrics_file.name)
        for later in reversed(checkpoints):
            target = folder / directory.checkpoints.name
            target.mkdir(exist_ok=True)
            store.path(later).rename(target / str(later))
    except OSError as error:
        raise RunDirectoryError(f"cannot take away what came after generation {generation}: {error}.") from None
    return f"going back to generation {generation}; set aside in {folder}: {what}."


def _new_folder(parent: Path) -> Path:
    stamp, number = time.strftime("%Y%m%d-%H%M%S"), 1
    while True:
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        return folder
