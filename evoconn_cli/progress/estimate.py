"""Estimates how long a run takes and how much memory it needs before it starts, from measured runs."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Collection
from typing import NamedTuple

from evoconn_cli.config.fields import walk
from evoconn_cli.config.registry import find
from evoconn_cli.config.schema import CHOSEN_BY_NAME, RunConfig, SpikingConfig, most_steps
from evoconn_cli.progress.formatting import count, duration


class _Measured(NamedTuple):
    """Figures of a task with `conn_snn` of 256 neurons on CPUs."""

    step: float  # time of an environment step of a member, in a generation of full episodes [µs]
    memory: int  # peak memory of the largest population, beside that of a process without a run [MB]


MEASURED = {
    "hopper": _Measured(3.39, 841),
    "walker2d": _Measured(4.53, 844),
    "humanoid": _Measured(10.62, 1297),
}
"""Figures by task: `generation` and `memory_10240` of docs/benchmark.json."""

MEASURED_CORES = 2
MEASURED_ON = "AMD EPYC"

_NEURONS, _SUBSTEPS, _POPULATION = 256, 33, 10_240
_SIMULATED_PER_COUNTED = 2.2
"""Most environment steps that were simulated per step that counted, in the first generations of a run."""


def seconds_at_most(config: RunConfig, cores: int, done: int = 0) -> float | None:
    """Returns how long the generations of a run take if every episode reaches its limit [s].

    Args:
        config: Configuration of the run.
        cores: Number of CPU cores that train it.
        done: Generations that are done.

    Returns:
        None if nothing comparable was measured: another task or network, or a larger one.
    """
    figures = _measured(config)
    if figures is None:
        return None
    full, most = most_steps(config), config.algo.max_env_steps
    steps = float(full * max(0, config.algo.generations - done))
    if most is not None and not done:
        steps = min(steps, _SIMULATED_PER_COUNTED * (most + full))
    return steps * figures.step * 1e-6 * MEASURED_CORES / cores


def expected_time(config: RunConfig, cores: int, done: int = 0) -> str | None:
    """Returns `seconds_at_most` in words, such as `< 3 min 28 s`; None if it is unknown."""
    seconds = seconds_at_most(config, cores, done)
    return None if seconds is None else f"< {duration(seconds)}"


def expected_in_all(seconds: Collection[float], num_runs: int, cores: int, at_once: int) -> str:
    """Returns a sentence about the time that several runs take together.

    Args:
        seconds: Times of the runs for which it is known.
        num_runs: Number of all runs.
        cores: CPU cores per run.
        at_once: Runs at the same time.
    """
    in_all = max(sum(seconds) / at_once, *seconds, 0.0)
    unknown = num_runs - len(seconds)
    without = f", without {unknown} that were not measured" if unknown else ""
    return (
        f"Expected: at most about {duration(in_all)} in all{without}, {at_once} at once on {cores} "
        f"core{'s' * (cores != 1)} each ({MEASURED_ON}); less while episodes are short."
    )


def _measured(config: RunConfig) -> _Measured | None:
    task, network = config.task, config.network
    figures = MEASURED.get(task.name)
    if figures is None or network.name != "conn_snn" or not isinstance(network, SpikingConfig):
        return None
    as_measured = dataclasses.replace(find("task", task.name).default_config(), episode_length=task.episode_length)
    is_small = network.num_neurons <= _NEURONS and round(network.step_ms / network.dt_ms) <= _SUBSTEPS
    return figures if task == as_measured and is_small and not config.rollout.warmup_steps else None


def plan(config: RunConfig, cores: int) -> list[tuple[str, str]]:
    """Returns `(label, value)` pairs about a run that has not started.

    Args:
        config: Configuration of the run.
        cores: Number of CPU cores that would train it.
    """
    algo, full = config.algo, most_steps(config)
    on = f"{cores} CPU core{'s' * (cores != 1)}"
    seconds, figures = seconds_at_most(config, cores), _measured(config)
    if seconds is None:
        time = "unknown: this task and network were not measured. Train a few generations"
    else:
        time = f"at most about {duration(seconds)} on {on} ({MEASURED_ON}), less while episodes are short"
    ends = {key: getattr(algo, key) for key in ("target_fitness", "patience", "max_env_steps")}
    given = [f"algo.{key}={json.dumps(value)}" for key, value in ends.items() if value is not None]
    rows = [
        ("task", f"{config.task.name}, episodes of up to {count(config.task.episode_length)} steps"),
        ("network", f"{config.network.name}, {config.network.num_neurons} neurons"),
        ("strategy", algo.name),
        ("population", f"{count(algo.population)} ({count(algo.num_evaluation_copies)} evaluate)"),
        ("generations", count(algo.generations) + (f", fewer with {', '.join(given)}" if given else "")),
        ("steps", f"at most {count(full)} per generation, {count(full * algo.generations)} in all"),
        ("training time", time),
    ]
    if figures is not None and algo.population <= _POPULATION and config.engine.block is None:
        rows.append(("memory", f"about {count(figures.memory)} MB on CPUs, beside that of Python and JAX"))
    if changed := _changed(config):
        rows.append(("changed keys", " ".join(changed)))
    return rows


def _changed(config: RunConfig) -> list[str]:
    """Returns the keys, as overrides, whose values differ from the defaults of the task, strategy and network."""
    chosen = {section: find(kind, getattr(config, section).name) for section, kind in CHOSEN_BY_NAME.items()}
    defaults = RunConfig(**{section: entry.default_config() for section, entry in chosen.items()})
    before = {key: value for key, value, _ in walk(defaults)}
    changes = {key: value for key, value, _ in walk(config) if value != before.get(key)}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in changes.items()}
    return [shlex.quote(f"{key}={text}") for key, text in texts.items()]
