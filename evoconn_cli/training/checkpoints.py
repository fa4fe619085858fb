"""The checkpoint store of a run: a directory a generation, with the whole RunState as Orbax writes it and its facts.

A checkpoint is written under another name, flushed to the disk and renamed, so it exists whole or not at all; one
that is to go is renamed before it is deleted. What happens to it later, on a bad disk or in a copy that was cut off,
is found when it is read: nothing is restored that is not, to the last bit, what was saved.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from evoconn_cli.config.schema import CheckpointConfig, RunConfig
from evoconn_cli.engine.mesh import Device
from evoconn_cli.engine.state import RunState, not_finite
from evoconn_cli.errors import (
    CheckpointError,
    DamagedCheckpointError,
    DeletedCheckpointError,
    UnreadableCheckpointError,
    first_line,
    program,
)
from evoconn_cli.runs.directory import saved_generations
from evoconn_cli.training.checkpoint_facts import check_files, check_run, check_shapes, read_facts, write_facts
from evoconn_cli.training.late_writes import late_writes_ignored, remove_for_good

_STATE, _COMMITTED = "state", "commit_success.txt"
"""Orbax's directory in a checkpoint, and the file in it whose being there says that all was written."""

_SAVING, _DELETING = ".saving-", ".deleting-"
"""What the names of checkpoints begin with that are not whole yet, or not any more."""


class HostFacts(NamedTuple):
    """What a run has to remember besides its arrays."""

    elapsed: float = 0.0  # [s] of training so far, over resumes
    env_steps_simulated: int = 0  # environment steps so far, wasted ones included


class Restored(NamedTuple):
    """The newest checkpoint that could be read."""

    state: RunState
    host: HostFacts
    damaged: list[int]  # newer generations that could not be read


class CheckpointStore:
    """Checkpoints by generation: the newest, the best by evaluation fitness, and each so many are kept.

    Args:
        directory: of the checkpoints; created when the first one is saved.
        config: of the run that is trained; None opens the store for reading only.
    """

    def __init__(self, directory: Path, config: RunConfig | None = None):
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax prints what it raises, and that is said here
        self._directory = directory.absolute()
        self._config = config
        alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})  # whoever computes besides
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
        self._checkpointer = ocp.Checkpointer(handler, multiprocessing_options=alone)
        if config is not None:
            for remains in [*self._directory.glob(f"{_SAVING}*"), *self._directory.glob(f"{_DELETING}*")]:
                shutil.rmtree(remains, ignore_errors=True)

    def latest(self) -> int | None:
        """Returns the newest generation that was saved; None if nothing is saved."""
        return max(self.generations(), default=None)

    def best(self) -> int | None:
        """Returns the saved generation of the highest evaluation fitness, the newest of equals; None without any.

        Raises:
            UnreadableCheckpointError: one of them cannot be read, so the best is not known.
        """
        return self._best_of(self.generations())

    def generations(self) -> list[int]:
        """Returns all generations that are saved, in order."""
        return saved_generations(self._directory)

    def path(self, generation: int) -> Path:
        """Returns the directory of a checkpoint."""
        return self._directory / str(generation)

    def save(self, state: RunState, host: HostFacts, eval_fitness: float) -> None:
        """Saves a checkpoint, which exists whole or not at all, and deletes those that need not be kept.

        Raises:
            CheckpointError: it could not be written; those before it stay.
        """
        if self._config is None:
            raise ValueError("the store was opened for reading")
        generation = int(state.generation)
        partial = self._directory / f"{_SAVING}{generation}"
        rated = eval_fitness if math.isfinite(eval_fitness) else None
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            with late_writes_ignored():
                # Of several processes Orbax takes no arrays that are on a device of one.
                held = state if jax.process_count() == 1 else jax.device_get(state)
                self._checkpointer.save(partial / _STATE, args=ocp.args.StandardSave(held))
            # Orbax writes there where that was, on this machine.
            (partial / _STATE / _COMMITTED).write_text("Checkpoint commit was successful\n", encoding="utf-8")
            write_facts(partial, self._config, generation=generation, eval_fitness=rated, **host._asdict())
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

    def restore(
        self, generation: int, like: RunState, device: Device, config: RunConfig | None = None
    ) -> tuple[RunState, HostFacts]:
        """Returns a saved state, placed on `device`, and its host facts.

        Args:
            generation: one of `generations()`.
            like: a state of the same run, or its shapes.
            device: where the arrays go, whatever device they were on when they were saved.
            config: of the run that goes on; every part of it that shapes a run has to be as it was.

        Raises:
            DamagedCheckpointError: something is missing or not what was saved.
            DeletedCheckpointError: it is gone, or was deleted before all of it was read.
            UnreadableCheckpointError: this user may not read it.
            CheckpointError: it is of another format, generator or configuration.
        """
        name = self._name(generation)
        deleted = DeletedCheckpointError(f"{name} was deleted while it was read: name another step.")
        try:
            restored = self._restore(name, generation, like, device, config)
        except CheckpointError:
            if self._is_saved(generation):
                raise
            raise deleted from None
        if not self._is_saved(generation):
            raise deleted
        return restored

    def _restore(
        self, name: str, generation: int, like: RunState, device: Device, config: RunConfig | None
    ) -> tuple[RunState, HostFacts]:
        path = self.path(generation)
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
        return state, HostFacts(**{name: facts[name] for name in HostFacts._fields})

    def restore_latest(
        self, like: RunState, device: Device, note: Callable[[str], None], config: RunConfig | None = None
    ) -> Restored | None:
        """Returns the newest checkpoint that is not damaged; None where nothing is saved.

        Args:
            like: as for `restore`.
            device: as for `restore`.
            note: is told about each damaged one.
            config: as for `restore`.

        Raises:
            DamagedCheckpointError: there are only damaged ones.
            UnreadableCheckpointError: this user may not read the newest one.
            CheckpointError: the newest whole one is of another format, generator or configuration.
        """
        damaged: list[int] = []
        left = self.generations()
        while left:
            generation = left.pop()
            try:
                return Restored(*self.restore(generation, like, device, config), damaged)
            except DeletedCheckpointError:  # by the training, which has saved newer ones before
                left = [g for g in self.generations() if g not in damaged]
            except DamagedCheckpointError as error:
                damaged.append(generation)
                note(f"{error} The one before it is tried.")
        if damaged:
            raise DamagedCheckpointError(
                f"none of the checkpoints in {self._directory} can be read, all are damaged. Copy them again from "
                f"where they came, or train from the start: {program()} resume RUN_DIR --from-step 0"
            )
        return None

    def delete(self, generation: int) -> None:
        """Deletes a checkpoint, which is gone whole or, if that cannot be, stays.

        Raises:
            OSError: it stays.
        """
        doomed = self._directory / f"{_DELETING}{generation}"
        self.path(generation).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _name(self, generation: int) -> str:
        return f"the checkpoint of generation {generation} in {self._directory}"

    def _is_saved(self, generation: int) -> bool:
        return generation in self.generations()

    def close(self) -> None:
        """Releases what Orbax holds."""
        self._checkpointer.close()

    def _best_of(self, generations: Iterable[int]) -> int | None:
        rated = [(fitness, g) for g in generations if (fitness := self._eval_fitness(g)) is not None]
        return max(rated)[1] if rated else None

    def _eval_fitness(self, generation: int) -> float | None:
        try:
            return read_facts(self._name(generation), self.path(generation))["eval_fitness"]
        except UnreadableCheckpointError:
            raise
        except CheckpointError:
            return None

    def _delete_old(self, keep: CheckpointConfig) -> None:
        saved = self.generations()
        try:
            best = self._best_of(saved)
        except UnreadableCheckpointError:
            return  # it may be the best
        kept = {best, *saved[-keep.keep_last :], *(g for g in saved if g % keep.keep_every == 0)}
        for generation in set(saved) - kept:
            with suppress(OSError):  # it costs some space
                self.delete(generation)


def _flush_directory(path: Path) -> None:
    """Has the names in a directory written to the disk."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # TensorStore tells every layer that the error went through.
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    return first_line(error)
