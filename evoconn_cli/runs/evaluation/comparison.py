"""Several evaluated runs together: the interquartile mean over the runs of an algorithm, network and size.

Source: Agarwal et al., NeurIPS 2021, as in `statistics`: a run's score is the mean return of its episodes, and runs are
resampled within their task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np

from evoconn_cli.config.text_values import read_float
from evoconn_cli.errors import ConfigError
from evoconn_cli.runs.evaluation.evaluating import Evaluated
from evoconn_cli.runs.evaluation.statistics import Interval, bootstrap_iqm, interquartile_mean


class Aggregate(NamedTuple):
    """The runs of one algorithm, network and size under one setting."""

    algo: str
    network: str
    num_neurons: int
    generation: int | None  # of all their checkpoints, where runs have several
    setting: dict[str, float]
    runs: dict[str, int]  # task -> runs
    iqm: float
    interval: Interval | None
    failed: int  # runs whose mean return is not a number


def parse_references(entries: Sequence[str]) -> dict[str, float]:
    """Returns `{task: return that counts as 1}` from entries `TASK=RETURN`.

    Raises:
        ConfigError: an entry that cannot be read, a task that is given twice, or a return of 0.
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
    """Checks that every task has a reference, or none has.

    Raises:
        ConfigError: some have.
    """
    if references and (missing := tasks - references.keys()):
        raise ConfigError(f"no --reference for {', '.join(sorted(missing))}: give one for every task, or none.")


def compare(evaluated: Sequence[Evaluated], references: Mapping[str, float], seed: int) -> list[Aggregate]:
    """Returns one aggregate for every group of at least two different runs, as `group_runs` has them.

    Args:
        evaluated: of all runs and settings.
        references: by task, what scores are divided by; empty for returns as they are.
        seed: of the bootstrap.
    """
    several = has_several_steps(evaluated)
    groups = [group for group in group_runs(evaluated) if len(group) > 1]
    return [_aggregate(group, references, seed, group[0].opened.generation if several else None) for group in groups]


def has_several_steps(evaluated: Sequence[Evaluated]) -> bool:
    """Returns whether a run was evaluated at several of its checkpoints."""
    checkpoints = {(one.opened.directory.path, one.opened.generation) for one in evaluated}
    return len(checkpoints) > len({path for path, _ in checkpoints})


def group_runs(evaluated: Sequence[Evaluated]) -> list[list[Evaluated]]:
    """Returns the runs of each algorithm, network, size and setting; every bundle is on its own.

    A network and its lesions are no sample of what training gives, and neither are checkpoints of one run: where runs
    have several, those of one generation belong together.

    Args:
        evaluated: of all runs and settings.
    """
    several = has_several_steps(evaluated)
    groups: dict[tuple, list[Evaluated]] = {}
    for one in evaluated:
        config = one.opened.config
        key = (config.algo.name, config.network.name, config.network.num_neurons, *one.setting.items())
        own = one.opened.directory.path if one.opened.bundle is not None else None
        groups.setdefault((*key, one.opened.generation if several else None, own), []).append(one)
    return list(groups.values())


def _aggregate(
    group: Sequence[Evaluated], references: Mapping[str, float], seed: int, generation: int | None
) -> Aggregate:
    strata: dict[str, list[float]] = {}
    for one in group:
        task = one.opened.config.task.name
        strata.setdefault(task, []).append(one.returns.mean / (references[task] if references else 1.0))
    scores = [np.asarray([score for score in values if np.isfinite(score)]) for values in strata.values()]
    scores = [values for values in scores if len(values)]
    every = np.concatenate(scores) if scores else np.full(1, np.nan)
    config = group[0].opened.config
    return Aggregate(
        algo=config.algo.name,
        network=config.network.name,
        num_neurons=config.network.num_neurons,
        generation=generation,
        setting=group[0].setting,
        runs={task: len(values) for task, values in strata.items()},
        iqm=float(interquartile_mean(every)),
        interval=bootstrap_iqm(scores, seed) if scores else None,
        failed=len(group) - sum(len(values) for values in scores),
    )
