"""Writes and checks `facts.json` of a checkpoint.

It holds the format, the generator of random numbers, the configuration of the run, and the SHA-256 of every other file
and of itself.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.tree_util import keystr

from evoconn_cli import __version__
from evoconn_cli.config.fields import walk
from evoconn_cli.config.loading import override_config
from evoconn_cli.config.reading import Overrides
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.state import KEY_IMPLEMENTATION, RunState
from evoconn_cli.errors import CheckpointError, DamagedCheckpointError, UnreadableCheckpointError
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.ending import ENDING_KEYS, Ending, read_ending

FACTS_FILE = "facts.json"
FORMAT = 2

_TYPES: dict[str, Any] = {
    "format": int,
    "evoconn": str,
    "rng": str,
    "generation": int,
    "elapsed": (int, float),
    "env_steps_simulated": int,
    "eval_fitness": (int, float, type(None)),
    "config": dict,
    "files": dict,
    "digest": str,
}

_ONLY_WHILE_TRAINING = ("engine.devices", "engine.kernel", "checkpoint.", "tracking.wandb", "tracking.video_every")
"""Keys, or prefixes of keys, that have no effect on a run that is not trained."""

_FREE = ("algo.generations", *ENDING_KEYS, "engine.devices", "engine.kernel", "checkpoint.", "tracking.")
"""Keys, or prefixes of keys, that may change on resume: how long, where and with which records a run is trained."""


def write_facts(path: Path, config: RunConfig, reached: Mapping[str, Any]) -> None:
    """Writes the facts of a checkpoint beside its other files, and flushes all of them to the disk.

    Args:
        path: Directory of the checkpoint.
        config: Configuration of the run.
        reached: `generation` of the state, its `eval_fitness` (None if it was not finite), and what the run had used by
            then: `elapsed` [s] and `env_steps_simulated`; `generation` and `fitness` of the `best` network, or None.
    """
    facts = {
        "format": FORMAT,
        "evoconn": __version__,
        "rng": KEY_IMPLEMENTATION,
        **reached,
        "config": what_shapes_a_run(config),
        "files": {name: _hash(path / name, flush=True) for name in _files(path)},
    }
    file = path / FACTS_FILE
    file.write_text(json.dumps({**facts, "digest": _digest(facts)}, indent=2) + "\n", encoding="utf-8")
    _hash(file, flush=True)


def read_facts(name: str, path: Path) -> dict[str, Any]:
    """Returns the facts of the checkpoint in the directory `path`.

    Args:
        name: Name of the checkpoint, for messages.
        path: Its directory.

    Raises:
        DamagedCheckpointError: they are missing or not what was written.
        UnreadableCheckpointError: this user may not read them.
        CheckpointError: they have another format.
    """
    try:
        with _as_damage(name, FACTS_FILE):
            text = (path / FACTS_FILE).read_bytes()
        facts = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise DamagedCheckpointError(f"{name} is damaged: {FACTS_FILE} cannot be read.") from None
    if isinstance(facts, dict) and facts.get("format", FORMAT) != FORMAT:
        raise CheckpointError(
            f"{name} has format {facts['format']!r}, and evoconn {__version__} reads format {FORMAT}. "
            f"Use the version that wrote it: evoconn {facts.get('evoconn', 'unknown')}."
        )
    typed = isinstance(facts, dict) and all(isinstance(facts.get(key), kinds) for key, kinds in _TYPES.items())
    if not typed or facts.pop("digest") != _digest(facts):
        raise DamagedCheckpointError(f"{name} is damaged: {FACTS_FILE} is not what was saved.")
    return facts


def check_files(name: str, path: Path, facts: dict[str, Any]) -> None:
    """Checks every file of a checkpoint.

    Raises:
        DamagedCheckpointError: one is missing or not what was saved.
        UnreadableCheckpointError: this user may not read one.
    """
    with _as_damage(name, "a directory"):
        found = _files(path)
    for file, expected in facts["files"].items():
        if file not in found:
            raise DamagedCheckpointError(f"{name} is damaged: {file} is missing.")
        with _as_damage(name, file):
            actual = _hash(path / file)
        if actual != expected:
            raise DamagedCheckpointError(f"{name} is damaged: {file} is cut off or changed.")


def is_whole(path: Path) -> bool:
    """Returns whether the directory `path` holds a checkpoint with every file as it was saved."""
    try:
        check_files("", path, read_facts("", path))
    except (CheckpointError, OSError):
        return False
    return True


def nothing_left(run: RunDirectory, overrides: Overrides) -> Ending | None:
    """Returns why a run that is whole is finished; None if it is not, or if a key is changed that has an effect on it.

    Neither is JAX started nor anything written.

    Raises:
        EvoconnError: The run or an override cannot be read.
    """
    before, done = run.read_config(), run.last_saved_generation()
    facts = run.read_facts()
    ending = read_ending(facts, done)
    if ending is None and facts.get("status") == "finished" and before.algo.generations == done:
        ending = Ending("algo.generations", "")  # by a version that did not say why
    asked = walk(override_config(before, overrides))
    changed = [key for (key, value, _), (_, was, _) in zip(asked, walk(before), strict=True) if value != was]
    is_asked_for_more = any(not key.startswith(_ONLY_WHILE_TRAINING) for key in changed)
    return None if is_asked_for_more or not is_whole(run.checkpoints / str(done)) else ending


def check_run(name: str, facts: dict[str, Any], config: RunConfig | None) -> None:
    """Checks that this version can resume from a checkpoint, and that it belongs to the run of `config`.

    Args:
        name: Name of the checkpoint, for messages.
        facts: Its facts.
        config: Configuration of the run; None to skip that check.

    Raises:
        CheckpointError: it has another generator or configuration.
    """
    if facts["rng"] != KEY_IMPLEMENTATION:
        raise CheckpointError(
            f"{name} was drawn with the generator {facts['rng']!r}; evoconn {__version__} draws with "
            f"{KEY_IMPLEMENTATION!r}, which would be another run. Use the version that wrote it: evoconn "
            f"{facts['evoconn']}."
        )
    if config is None:
        return
    trained, wanted = facts["config"], what_shapes_a_run(config)
    differ = [key for key in trained if key not in wanted or trained[key] != wanted[key]]
    if differ:
        was, now = (", ".join(f"{key}={as_yaml(of.get(key))}" for key in differ[:3]) for of in (trained, wanted))
        raise CheckpointError(
            f"{name} is of another configuration: it was trained with {was}, and the run's configuration says {now}"
            f"{', and more' * (len(differ) > 3)}. Change it back to resume, or start a new run."
        )


def what_shapes_a_run(config: RunConfig) -> dict[str, Any]:
    """Returns the configuration keys, with their values, that determine what a run computes."""
    return {key: value for key, value, _ in walk(config) if not key.startswith(_FREE)}


def check_shapes(name: str, saved: Any, expected: RunState) -> None:
    """Checks type and shape of every array.

    Args:
        name: Name of the checkpoint, for messages.
        saved: The arrays in it, or their shapes.
        expected: A state of the run, or its shapes.

    Raises:
        CheckpointError: the first array that is not as expected.
    """
    has, wanted = _arrays_by_name(saved), _arrays_by_name(expected)
    for array in sorted(has.keys() | wanted.keys()):
        if has.get(array) != wanted.get(array):
            raise CheckpointError(
                f"{name} is of another configuration: {array} is {has.get(array, 'missing')}, this run has "
                f"{wanted.get(array, 'no such array')}. A checkpoint opens with the config.yaml it was trained with."
            )


def _arrays_by_name(tree: Any) -> dict[str, str]:
    """Returns type and shape of every array, such as `{"normalizer.mean": "float32 [11]"}`."""
    arrays = jax.tree_util.tree_leaves_with_path(tree)
    return {keystr(path, simple=True, separator="."): f"{x.dtype} {list(x.shape)}" for path, x in arrays}


@contextmanager
def _as_damage(name: str, file: str) -> Iterator[None]:
    """Reports an error of reading a file as damage, unless it says nothing about the content of the file."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedCheckpointError(f"{name} is damaged: {file} is missing.") from None
    except OSError as error:
        if isinstance(error, IsADirectoryError) or error.errno == errno.EIO:
            raise DamagedCheckpointError(f"{name} is damaged: {file} cannot be read.") from None
        raise UnreadableCheckpointError(f"{name} cannot be read: {error.strerror}: {error.filename or file}.") from None


def _files(path: Path) -> list[str]:
    """Returns the regular files below a directory.

    Raises:
        OSError: a directory cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    files = (Path(folder, name) for folder, _, names in os.walk(path, onerror=fail) for name in names)
    return sorted(str(file.relative_to(path)) for file in files if _is_regular(file))


def _is_regular(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except FileNotFoundError:  # a link to nowhere
        return False


def _hash(file: Path, *, flush: bool = False) -> str:
    """Returns the SHA-256 of a file; with `flush` it is flushed to the disk, to survive a power failure."""
    with file.open("rb") as opened:
        if flush:
            os.fsync(opened.fileno())
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def as_yaml(value: Any) -> str:
    """Returns a value of the configuration as a message shows it."""
    return "null" if value is None else str(value)
