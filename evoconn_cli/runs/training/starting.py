"""Where a training starts: at the beginning, at the latest checkpoint that is whole, or at an older one."""

from __future__ import annotations

from collections.abc import Callable

from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.mesh import Device
from evoconn_cli.engine.state import RunState
from evoconn_cli.errors import CheckpointError
from evoconn_cli.runs.checkpoints.set_aside import set_aside_later
from evoconn_cli.runs.checkpoints.store import CheckpointStore, HostFacts
from evoconn_cli.runs.directory import RunDirectory


def starting_point(
    directory: RunDirectory,
    store: CheckpointStore,
    config: RunConfig,
    initial: RunState,
    device: Device,
    note: Callable[[str], None],
    *,
    from_step: int | None = None,
    discard_later: bool = False,
) -> tuple[RunState, HostFacts]:
    """Returns the state that the next generation starts from.

    What came later, at `from_step` or where the latest checkpoints are damaged, is out of the way afterwards.

    Args:
        directory: of the run.
        store: of the run, open for writing.
        config: of the run.
        initial: the state before the first generation.
        device: that holds the state.
        note: is told what the user has to know.
        from_step: generation to start from, 0 for the beginning; None for the latest.
        discard_later: delete what came later instead of setting it aside.

    Raises:
        CheckpointError: a checkpoint is missing, damaged or of another run.
        RunDirectoryError: the directory cannot be written.
    """
    if from_step is None:
        found = store.restore_latest(initial, device, note, config)
        if found is None:
            return initial, HostFacts()
        state, host = found.state, found.host
        if not found.damaged:
            return state, host
    elif from_step == 0:
        state, host = initial, HostFacts()
    else:
        saved = store.generations()
        if from_step not in saved:
            names = ", ".join(map(str, saved)) or "none"
            raise CheckpointError(
                f"generation {from_step} is not saved in {directory.path}. Saved: {names}; 0 is the beginning."
            )
        state, host = store.restore(from_step, initial, device, config)
    done = set_aside_later(directory, store, int(state.generation), discard=discard_later)
    if done is not None:
        note(done)
    return state, host
