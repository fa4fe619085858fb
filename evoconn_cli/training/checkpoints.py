"""The checkpoint store of a run: one directory per generation, with the whole RunState and its facts.

A checkpoint is written under another name, flushed to the disk and renamed, so it exists whole or not at all; it is
renamed before it is deleted. Later damage, by a bad disk or an incomplete copy, is detected when it is read: only what
was saved, to the last bit, is restored.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from evoconn_cli.config.schema import CheckpointConfig, RunConfig
from evoconn_cli.engine.mesh import JaxDevice
from evoconn_cli.engine.state import RunState, not_finite
from evoconn_cli.errors import (
    CheckpointError,
    DamagedCheckpointError,
    DeletedCheckpointError,
    UnreadableCheckpointError,
    first_line,
    program,
)
from evoconn_cli.output import finite_json
from evoconn_cli.runs.directory import saved_generations
from evoconn_cli.runs.ending import Best, read_best
from evoconn_cli.training.checkpoint_facts import check_files, check_run, check_shapes, read_facts, write_facts

_STATE, _COMMITTED = "state", "commit_success.txt"
"""Orbax's directory in a checkpoint, and the file in it that marks it as complete."""

_SAVING, _DELETING = ".saving-", ".deleting-"
"""Prefixes of checkpoints that are being written or deleted."""

_QUIET, _PATIENCE, _PAUSE = 0.5, 5.0, 0.01
"""[s] A removed directory must stay away this long; removing is given up after that; time between looks."""


class HostFacts(NamedTuple):
    """What a run remembers besides its arrays."""

    elapsed: float = 0.0  # [s] of training so far, over resumptions
    env_steps_simulated: int = 0  # environment steps so far, including those that do not count
    best: Best | None = None  # network among those evaluated by then


class Restored(NamedTuple):
    """The newest checkpoint that could be read."""

    state: RunState
    host: HostFacts
    damaged: list[int]  # newer generations that could not be read


class CheckpointStore:
    """Checkpoints by generation. Kept are the newest, that of the best network, and every `keep_every`-th.

    Args:
        directory: Directory of the checkpoints; created with the first one.
        config: Configuration of the run that is trained; None opens the store for reading only.
    """

    def __init__(self, directory: Path, config: RunConfig | None = None):
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax also prints what it raises
        self._directory = directory.absolute()
        self._config = config
        alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})  # other processes only compute
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
        self._checkpointer = ocp.Checkpointer(handler, multiprocessing_options=alone)
        if config is not None:
            for remains in [*self._directory.glob(f"{_SAVING}*"), *self._directory.glob(f"{_DELETING}*")]:
                shutil.rmtree(remains, ignore_errors=True)

    def close(self) -> None:
        """Releases what Orbax holds."""
        self._checkpointer.close()

    def generations(self) -> list[int]:
        """Returns all saved generations, in order."""
        return saved_generations(self._directory)

    def latest(self) -> int | None:
        """Returns the newest saved generation; None if nothing is saved."""
        return max(self.generations(), default=None)

    def best(self) -> int | None:
        """Returns the saved generation of the best network; None without any.

        Checkpoints of earlier versions do not name it; of those it is the one with the highest evaluation fitness.

        Raises:
            UnreadableCheckpointError: one of them cannot be read, so the best is not known.
        """
        saved = self.generations()
        if (named := self._named_best(saved)) is not None:
            return named
        facts = ((self._facts(generation), generation) for generation in saved)
        rated = [(of["eval_fitness"], g) for of, g in facts if of and of["eval_fitness"] is not None]
        return max(rated)[1] if rated else None

    def path(self, generation: int) -> Path:
        """Returns the directory of a checkpoint."""
        return self._directory / str(generation)

    def save(self, state: RunState, host: HostFacts, eval_fitness: float) -> None:
        """Saves a checkpoint atomically, and deletes those that need not be kept.

        Raises:
            CheckpointError: it could not be written; earlier ones stay.
        """
        if self._config is None:
            raise ValueError("the store was opened for reading")
        generation = int(state.generation)
        partial = self._directory / f"{_SAVING}{generation}"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            with _late_writes_ignored():
                # With several processes, Orbax takes no arrays that are on a device of one of them.
                held = state if jax.process_count() == 1 else jax.device_get(state)
                self._checkpointer.save(partial / _STATE, args=ocp.args.StandardSave(held))
            # Orbax has written a path of this machine into it.
            (partial / _STATE / _COMMITTED).write_text("Checkpoint commit was successful\n", encoding="utf-8")
            reached = {"generation": generation, "eval_fitness": finite_json(eval_fitness), **host._asdict()}
            write_facts(partial, self._config, reached | {"best": host.best and host.best._asdict()})
            _flush_directory(partial)
            partial.rename(self.path(generation))
            _flush_directory(self._directory)
        except Exception as error:  # TensorStore raises a ValueError on a full disk
            remove_for_good(partial)
            kept = ", ".join(map(str, self.generations())) or "none"
            raise CheckpointError(
                f"the checkpoint of generation {generation} could not be written to {self._directory}: "
                f"{_reason(error)}. Saved before and kept: {kept}."
            ) from error
        self._delete_old(self._config.checkpoint)

    def delete(self, generation: int) -> None:
        """Deletes a checkpoint atomically.

        Raises:
            OSError: it could not be deleted and stays.
        """
        doomed = self._directory / f"{_DELETING}{generation}"
        self.path(generation).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def restore(
        self, generation: int, like: RunState, device: JaxDevice, config: RunConfig | None = None
    ) -> tuple[RunState, HostFacts]:
        """Returns a saved state, placed on `device`, and its host facts.

        Args:
            generation: One of `generations()`.
            like: A state of the same run, or its shapes.
            device: Device for the arrays, whatever device they were saved from.
            config: Configuration of the run that resumes; the keys that shape a run must be unchanged.

        Raises:
            DamagedCheckpointError: something is missing or not what was saved.
            DeletedCheckpointError: it is gone, or was deleted while it was read.
            UnreadableCheckpointError: this user may not read it.
            CheckpointError: it has another format, generator or configuration.
        """
        deleted = DeletedCheckpointError(f"{self._name(generation)} was deleted while it was read: name another step.")
        try:
            restored = self._restore(generation, like, device, config)
        except CheckpointError:
            if generation in self.generations():
                raise
            raise deleted from None
        if generation not in self.generations():
            raise deleted
        return restored

    def _restore(
        self, generation: int, like: RunState, device: JaxDevice, config: RunConfig | None
    ) -> tuple[RunState, HostFacts]:
        name, path = self._name(generation), self.path(generation)
        facts = read_facts(name, path)
        check_files(name, path, facts)
        if facts["generation"] != generation:
            raise CheckpointError(f"{name} is that of generation {facts['generation']}: rename it back.")
        check_run(name, facts, config)
        sharding = SingleDeviceSharding(device)
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
        try:
            saved = self._checkpointer.metadata(path / _STATE).item_metadata
            check_shapes(name, getattr(saved, "tree", None), abstract)
            state = self._checkpointer.restore(path / _STATE, args=ocp.args.StandardRestore(abstract))
        except CheckpointError:
            raise
        except Exception as error:  # Orbax has no exception of its own for what it cannot read
            raise CheckpointError(f"{name} cannot be restored: {_reason(error)}.") from error
        if arrays := not_finite(state):
            raise CheckpointError(
                f"{name} is of a run that had diverged: {', '.join(arrays[:3])} hold numbers that are not finite. Take "
                "an older step, with --step, or with --from-step to resume."
            )
        return state, HostFacts(facts["elapsed"], facts["env_steps_simulated"], read_best(facts))

    def restore_latest(
        self, like: RunState, device: JaxDevice, note: Callable[[str], None], config: RunConfig | None = None
    ) -> Restored | None:
        """Returns the newest checkpoint that is not damaged; None if nothing is saved.

        Args:
            like: As for `restore`.
            device: As for `restore`.
            note: Called with a message about each damaged one.
            config: As for `restore`.

        Raises:
            DamagedCheckpointError: all are damaged.
            UnreadableCheckpointError: this user may not read the newest one.
            CheckpointError: the newest undamaged one has another format, generator or configuration.
        """
        damaged: list[int] = []
        left = self.generations()
        while left:
            generation = left.pop()
            try:
                return Restored(*self.restore(generation, like, device, config), damaged)
            except DeletedCheckpointError:  # by the training, which has saved newer ones since
                left = [g for g in self.generations() if g not in damaged]
            except DamagedCheckpointError as error:
                damaged.append(generation)
                note(f"{error} Trying the one before it.")
        if damaged:
            raise DamagedCheckpointError(
                f"all checkpoints in {self._directory} are damaged. Copy them again from where they came, or train "
                f"from the start: {program()} resume RUN_DIR --from-step 0"
            )
        return None

    def _name(self, generation: int) -> str:
        return f"the checkpoint of generation {generation} in {self._directory}"

    def _named_best(self, saved: list[int]) -> int | None:
        """Returns the saved generation that the newest possible checkpoint names as the best."""
        named = (read_best(facts) for generation in reversed(saved) if (facts := self._facts(generation)))
        return next((best.generation for best in named if best and best.generation in saved), None)

    def _facts(self, generation: int) -> dict[str, Any] | None:
        """Returns the facts of a checkpoint; None if it is damaged."""
        try:
            return read_facts(self._name(generation), self.path(generation))
        except UnreadableCheckpointError:
            raise
        except CheckpointError:
            return None

    def _delete_old(self, keep: CheckpointConfig) -> None:
        saved = self.generations()
        try:
            best, named = self.best(), self._named_best(saved)
        except UnreadableCheckpointError:
            return  # it may be the best
        newest = [g for g in saved if g != named or g == saved[-1]][-keep.keep_last :]
        kept = {best, *newest, *(g for g in saved if g % keep.keep_every == 0)}
        for generation in set(saved) - kept:
            with suppress(OSError):  # it only takes some space
                self.delete(generation)


def _flush_directory(path: Path) -> None:
    """Flushes the names in a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # TensorStore lists every layer that the error went through.
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    return first_line(error)


@contextmanager
def _late_writes_ignored() -> Iterator[None]:
    """Keeps Python from printing the errors that follow after one of several writes has failed.

    Orbax writes all arrays at once and closes its event loop at the first failure. TensorStore reports the other
    failures to that loop from its own threads, asyncio those that were never awaited, and Python the writes that never
    began, perhaps a while later. So after a failure this stays in force.
    """
    previous = sys.unraisablehook
    if isinstance(previous, _IgnoreClosedLoops):
        yield
        return
    filters = ExitStack()
    filters.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", r"coroutine .* was never awaited", RuntimeWarning)
    logger = logging.getLogger("asyncio")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = _IgnoreClosedLoops(previous)
    yield
    sys.unraisablehook = previous
    logger.setLevel(level)
    filters.close()


class _IgnoreClosedLoops:
    def __init__(self, previous: Any) -> None:
        self._previous = previous

    def __call__(self, unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, RuntimeError) or str(unraisable.exc_value) != "Event loop is closed":
            self._previous(unraisable)


def remove_for_good(
    path: Path, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep
) -> None:
    """Removes the directory of a checkpoint that could not be written, also if it comes back within seconds.

    TensorStore makes the directory of a file that it is about to write, and so restores one that was removed.

    Args:
        path: Directory to remove.
        clock: Monotonic clock [s].
        pause: Waits for a number of seconds.
    """
    start = quiet_since = clock()
    while (now := clock()) - quiet_since < _QUIET and now - start < _PATIENCE:
        if path.exists():
            shutil.rmtree(path, ignore_errors=True)
            quiet_since = now
        pause(_PAUSE)
