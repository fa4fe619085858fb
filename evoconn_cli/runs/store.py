"""The checkpoint store of a run: Orbax checkpoints of the whole RunState and its host facts."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import checkpoint_managers

from evoconn_cli.config.schema import CheckpointConfig
from evoconn_cli.engine.mesh import Device
from evoconn_cli.engine.state import KEY_IMPLEMENTATION, RunState
from evoconn_cli.errors import CheckpointError

_FORMAT = 1
_WORST = -3.0e38
"""Stands for an evaluation fitness that is not a number, so that JSON can hold it."""


class HostFacts(NamedTuple):
    """What a run has to remember besides its arrays."""

    elapsed: float  # [s] of training so far, over resumes


class CheckpointStore:
    """Checkpoints by generation: the newest, the best by evaluation fitness, and each so many are kept.

    Args:
        directory: of the checkpoints; created when the first one is saved.
        config: what to keep; None opens the store for reading only.
    """

    def __init__(self, directory: Path, config: CheckpointConfig | None = None):
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._directory = directory.absolute()
        self._manager = ocp.CheckpointManager(
            self._directory,
            item_handlers={"state": ocp.StandardCheckpointHandler(), "host": ocp.JsonCheckpointHandler()},
            options=ocp.CheckpointManagerOptions(
                read_only=config is None,
                create=config is not None,
                cleanup_tmp_directories=config is not None,
                enable_async_checkpointing=False,
                best_fn=_fitness_of,
                preservation_policy=_what_to_keep(config) if config else None,
            ),
        )

    def latest(self) -> int | None:
        """Returns the newest generation that was saved whole; None where there is none."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """Returns the generation of the highest evaluation fitness among those saved; None where there is none."""
        return self._manager.best_step()

    def generations(self) -> list[int]:
        """Returns all generations that are saved, in order."""
        return sorted(self._manager.all_steps())

    def save(self, state: RunState, host: HostFacts, eval_fitness: float) -> None:
        """Saves a checkpoint; it exists whole or not at all.

        Raises:
            CheckpointError: it could not be written.
        """
        generation = int(state.generation)
        facts = {"format": _FORMAT, "rng": KEY_IMPLEMENTATION, **host._asdict()}
        try:
            self._manager.save(
                generation,
                args=ocp.args.Composite(state=ocp.args.StandardSave(state), host=ocp.args.JsonSave(facts)),
                metrics={"eval_fitness": eval_fitness if math.isfinite(eval_fitness) else _WORST},
            )
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint of generation {generation} could not be written to {self._directory}: {error}"
            ) from None

    def restore(self, generation: int, like: RunState, device: Device) -> tuple[RunState, HostFacts]:
        """Returns a saved state, placed on `device`, and its host facts.

        Args:
            generation: one of `generations()`.
            like: a state of the same run, or its shapes.
            device: where the arrays go, whatever device they were on when they were saved.

        Raises:
            CheckpointError: it is damaged, or of another format or run.
        """
        sharding = SingleDeviceSharding(device)
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
        try:
            facts = self._manager.restore(generation, args=ocp.args.Composite(host=ocp.args.JsonRestore()))["host"]
            self._check_facts(generation, facts)
            self._check_shapes(generation, abstract)
            restored = self._manager.restore(
                generation, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            )
        except CheckpointError:
            raise
        except Exception as error:  # Orbax has no exception of its own for what it cannot read
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"the checkpoint of generation {generation} in {self._directory} cannot be read: {first}"
            ) from error
        return restored["state"], HostFacts(elapsed=float(facts["elapsed"]))

    def close(self) -> None:
        """Releases what Orbax holds."""
        self._manager.close()

    def _check_facts(self, generation: int, facts: dict[str, Any]) -> None:
        for name, expected in (("format", _FORMAT), ("rng", KEY_IMPLEMENTATION)):
            if facts.get(name) != expected:
                raise CheckpointError(
                    f"the checkpoint of generation {generation} in {self._directory} has {name} "
                    f"{facts.get(name)!r}, this version of evoconn reads {expected!r}."
                )

    def _check_shapes(self, generation: int, expected: RunState) -> None:
        """Raises a CheckpointError that names the first array which is not as in `expected`."""
        metadata = self._manager.item_metadata(generation)["state"]
        saved, wanted = _arrays_by_name(getattr(metadata, "tree", metadata)), _arrays_by_name(expected)
        for name in sorted(saved.keys() | wanted.keys()):
            if saved.get(name) != wanted.get(name):
                raise CheckpointError(
                    f"the checkpoint of generation {generation} in {self._directory} is of another configuration: "
                    f"{name} is {saved.get(name, 'missing')}, this run has {wanted.get(name, 'no such array')}."
                )


def _arrays_by_name(tree: Any) -> dict[str, str]:
    """Returns type and shape of every array, such as `{"normalizer.mean": "float32 [11]"}`."""
    arrays = {}
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        name = ".".join(str(getattr(key, "name", getattr(key, "key", key))) for key in path)
        arrays[name] = f"{x.dtype} {list(x.shape)}"
    return arrays


def _fitness_of(metrics: dict[str, float]) -> float:
    return metrics["eval_fitness"]


def _what_to_keep(config: CheckpointConfig) -> checkpoint_managers.PreservationPolicy:
    return checkpoint_managers.AnyPreservationPolicy(
        [
            checkpoint_managers.LatestN(config.keep_last),
            checkpoint_managers.BestN(get_metric_fn=_fitness_of, n=1),
            checkpoint_managers.EveryNSteps(config.keep_every),
        ]
    )
