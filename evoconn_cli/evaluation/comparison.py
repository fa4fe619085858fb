"""Groups evaluated runs, and computes the interquartile mean over the runs of a group.

Source: Agarwal et al., NeurIPS 2021, as in `statistics`: the score of a run is the mean return of its episodes, and
runs are resampled within their task.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
from typing import Any, NamedTuple, TypeVar

import numpy as np

from evoconn_cli.config.numbers import read_float
from evoconn_cli.config.schema import what_seeds_share
from evoconn_cli.errors import ConfigError
from evoconn_cli.evaluation.evaluating import Evaluated
from evoconn_cli.evaluation.opened import kind_of
from evoconn_cli.evaluation.statistics import Interval, bootstrap_iqm, interquartile_mean

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


class Aggregate(NamedTuple):
    """The runs of one strategy, network and size under one setting; its fields are those of the JSON document."""

    algo: str
    network: str
    num_neurons: int
    generation: int | None  # of the checkpoints; None if those of different tasks differ
    perturbations: dict[str, float]  # strengths by name
    runs: dict[str, int]  # number of runs by task
    failed: int  # runs whose mean return is not finite
    iqm: float
    iqm_interval: Interval | None


def parse_references(entries: Sequence[str]) -> dict[str, float]:
    """Returns `{task: return that counts as 1}` from entries `TASK=RETURN`.

    Raises:
        ConfigError: An entry cannot be read, names a task again, or gives a return of 0.
    """
    references = {}
    for entry in entries:
        task, _, text = entry.partition("=")
        if task in references:
            raise ConfigError(f"--reference {task} is given twice. Give one return for each task.")
        value = read_float(text)
        if not task or value is None:
            raise ConfigError(f"cannot read --reference {entry!r}: write TASK=RETURN, such as hopper=2450.")
        if not np.isfinite(value) or value == 0.0:
            raise ConfigError(f"--reference {entry}: scores are divided by it, so it must be a number other than 0.")
        references[task] = value
    return references


def check_references(references: Mapping[str, float], tasks: Set[str]) -> None:
    """Checks that either every task has a reference, or none has.

    Raises:
        ConfigError: Only some tasks have one.
    """
    if references and (missing := tasks - references.keys()):
        raise ConfigError(f"no --reference for {', '.join(sorted(missing))}: give one for every task, or none.")


def compare(evaluated: Sequence[Evaluated], references: Mapping[str, float], seed: int) -> list[Aggregate]:
    """Returns one aggregate per group of `group_runs` with at least two runs.

    Args:
        evaluated: Results of all runs and settings.
        references: Returns by task that scores are divided by; empty for plain returns.
        seed: Random seed of the bootstrap.
    """
    return [_aggregate(group, references, seed) for group in group_runs(evaluated) if len(group) > 1]


def has_several_steps(evaluated: Sequence[Evaluated]) -> bool:
    """Returns whether a run was evaluated at several of its checkpoints."""
    checkpoints = {(one.opened.directory.path, one.opened.generation) for one in evaluated}
    return len(checkpoints) > len({path for path, _ in checkpoints})


def group_runs(evaluated: Sequence[Evaluated]) -> list[list[Evaluated]]:
    """Returns the runs of each strategy, network, size and setting that differ only in their seeds and tasks.

    Runs of one task that differ in their generation or in a key of the configuration go to different groups. A run
    that occurs twice counts once. Every bundle is a group of its own, because a network and its lesions are not a
    sample of what training gives.
    """
    groups = []
    for runs in _kinds(evaluated):
        samples = grouped(runs, lambda one: tuple(_sample(one).items())).values() if _differing(runs) else [runs]
        # Of the evaluations of one task and seed, the first one counts.
        groups += [[same[0] for same in grouped(sample, _run_of).values()] for sample in samples]
    return groups


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Returns the items by their `key`, in the order of the first one of each group."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def differing_keys(samples: Sequence[Mapping[str, Any]]) -> set[str]:
    """Returns the keys whose values are not the same in all of `samples`."""
    return {key for key in samples[0] if any(other[key] != samples[0][key] for other in samples)}


def apart(evaluated: Sequence[Evaluated]) -> list[str]:
    """Returns sentences that say which runs of one strategy, network and size are in different groups, and why."""
    notes = []
    for runs in _kinds(evaluated):
        differing = _differing(runs)
        if has_several_steps(runs):
            differing.discard("generation")
        if differing:
            kind = kind_of(runs[0].opened.config)
            notes.append(f"Not grouped: runs of {kind} differ in {', '.join(sorted(differing))}.")
        first: dict[tuple, Evaluated] = {}
        for one in runs:
            same = first.setdefault((*_run_of(one), *_sample(one).items()), one)
            if same is not one:
                again, path = (run.opened.directory.short_path() for run in (one, same))
                notes.append(f"{again} has the configuration and seed of {path}: both count as one run.")
    return list(dict.fromkeys(notes))


def sample_text(group: Sequence[Evaluated], evaluated: Sequence[Evaluated]) -> str:
    """Returns the settings that distinguish a group of its strategy, network and size, such as `learning_rate=0.1`."""
    kind = next(runs for runs in _kinds(evaluated) if any(one is group[0] for one in runs))
    sample = _sample(group[0])
    return " ".join(f"{key.rpartition('.')[2]}={sample[key]}" for key in sorted(_differing(kind) - {"generation"}))


def _kinds(evaluated: Sequence[Evaluated]) -> list[list[Evaluated]]:
    """Returns the runs of each strategy, network, size and setting; every bundle on its own."""

    def kind(one: Evaluated) -> tuple:
        own = one.opened.directory.path if one.opened.bundle is not None else None
        return kind_of(one.opened.config), *one.perturbations.items(), own

    return list(grouped(evaluated, kind).values())


def _sample(one: Evaluated) -> dict[str, Any]:
    """Returns the values that the runs of a sample have in common, by key."""
    return {"generation": one.opened.generation, **what_seeds_share(one.opened.config)}


def _differing(runs: Sequence[Evaluated]) -> set[str]:
    """Returns the keys in which runs of the same task differ, other than their seeds."""
    by_task = grouped(runs, _task_of).values()
    return set().union(*(differing_keys(list(map(_sample, of_task))) for of_task in by_task))


def _task_of(one: Evaluated) -> str:
    return one.opened.config.task.name


def _run_of(one: Evaluated) -> tuple[str, int]:
    return _task_of(one), one.opened.config.seed


def _aggregate(group: Sequence[Evaluated], references: Mapping[str, float], seed: int) -> Aggregate:
    by_task = grouped(group, _task_of)
    scores = []
    for task, runs in by_task.items():
        values = np.asarray([one.returns.mean for one in runs]) / references.get(task, 1.0)
        scores.append(values[np.isfinite(values)])
    scores = [values for values in scores if len(values)]
    every = np.concatenate(scores) if scores else np.full(1, np.nan)
    config = group[0].opened.config
    generations = {one.opened.generation for one in group}
    return Aggregate(
        algo=config.algo.name,
        network=config.network.name,
        num_neurons=config.network.num_neurons,
        generation=generations.pop() if len(generations) == 1 else None,
        perturbations=group[0].perturbations,
        runs={task: len(runs) for task, runs in by_task.items()},
        failed=len(group) - sum(len(values) for values in scores),
        iqm=float(interquartile_mean(every)),
        iqm_interval=bootstrap_iqm(scores, seed) if scores else None,
    )
