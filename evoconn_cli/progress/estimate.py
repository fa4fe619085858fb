"""Estimates how long a run takes and how much memory it needs before it starts, from measured runs."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from evoconn_cli.config.fields import walk
from evoconn_cli.config.registry import find
from evoconn_cli.config.schema import CHOSEN_BY_NAME, RunConfig, SpikingConfig, most_steps
from evoconn_cli.limits import cache_folder, processor
from evoconn_cli.progress.formatting import count, duration
from evoconn_cli.progress.history import Metrics
from evoconn_cli.progress.remembered import Remembered, kind_of

STEP_TIMES = Path(__file__).with_name("step_times.json")
"""Times of a simulated step [µs] that `python -m benchmarks.step_times` has measured: by task with `conn_snn`, and what
other networks add, by task."""

MEMORY = {"hopper": 841, "walker2d": 844, "humanoid": 1297}
"""Peak memory of `conn_snn` on CPUs by task, beside that of a process without a run [MB]: `memory_10240` of
docs/benchmark.json."""

THIS_MACHINE = "measured on this machine"

_SUBSTEPS, _POPULATION = 33, 10_240
_SIMULATED_PER_COUNTED = 2.2
"""Most environment steps that were simulated per step that counted, in the first generations of a run."""

_REMEMBERED = "evoconn-step-times.json"
_FEWEST, _RECENT = 5, 100
"""Generations from which on a run's speed is remembered, and those that it is measured over."""


class Expected(NamedTuple):
    """How long the generations of a run take if every episode reaches its limit."""

    seconds: float
    where: str  # the machine that was measured, in words

    def text(self) -> str:
        """Returns it in words, such as `< 3 min 28 s (AMD EPYC)`."""
        return f"< {duration(self.seconds)} ({self.where})"


def expected(config: RunConfig, cores: int, done: int = 0, *, gpus: str | None = None) -> Expected | None:
    """Returns how long a run takes at most: at the speed of the last such run on this machine, or a tabled one.

    Args:
        config: Configuration of the run.
        cores: Number of CPU cores that train it.
        done: Generations that are done.
        gpus: GPUs that train it instead, in words.

    Returns:
        None if nothing comparable was measured.
    """
    speed = _remembered(config, gpus)
    if speed is None and gpus is None:
        speed = _tabled(config)
    if speed is None:
        return None
    full, most = most_steps(config), config.algo.max_env_steps
    steps = float(full * max(0, config.algo.generations - done))
    if most is not None and not done:
        steps = min(steps, _SIMULATED_PER_COUNTED * (most + full))
    return Expected(steps * speed.seconds / (1 if gpus else cores), speed.where)


def remember(config: RunConfig, cores: int, lines: Sequence[Metrics], *, gpus: str | None = None) -> None:
    """Remembers how fast a run was, beside the programs that JAX has compiled; nothing if it was too short.

    Args:
        config: Configuration of the run.
        cores: Number of CPU cores that trained it.
        lines: Lines of metrics.jsonl of this session, and the one before.
        gpus: GPUs that trained it instead, in words.
    """
    recent = lines[-1 - _RECENT :]
    seconds = sum(line.get("seconds") or 0.0 for line in recent[1:])
    first, last = (line.get("env_steps_simulated") or 0 for line in (recent[0], recent[-1])) if recent else (0, 0)
    if len(recent) > _FEWEST and last > first:
        step = seconds / (last - first) * 1e6 * (1 if gpus else cores)
        Remembered(cache_folder(), _REMEMBERED).put(_kind(config, gpus), float(f"{step:.4g}"))


def _remembered(config: RunConfig, gpus: str | None) -> Expected | None:
    """Returns the time of a simulated step, on one core or the GPUs, of the last run of this kind here."""
    step = Remembered(cache_folder(), _REMEMBERED).get(_kind(config, gpus))
    return Expected(step * 1e-6, THIS_MACHINE) if isinstance(step, int | float) else None


def _tabled(config: RunConfig) -> Expected | None:
    """Returns the time of a simulated step on one core, from the table."""
    table, task, network = json.loads(STEP_TIMES.read_text(encoding="utf-8")), config.task, config.network
    step = table["tasks"].get(task.name)
    others = table["networks"].get(network.name, {})
    beside = 0.0 if network.name == "conn_snn" else others.get(task.name, max(others.values(), default=None))
    if step is None or beside is None or network.num_neurons > table["neurons"] or config.rollout.warmup_steps:
        return None
    if isinstance(network, SpikingConfig) and round(network.step_ms / network.dt_ms) > _SUBSTEPS:
        return None
    as_measured = dataclasses.replace(find("task", task.name).default_config(), episode_length=task.episode_length)
    return Expected((step + beside) * 1e-6 * table["cores"], table["machine"]) if task == as_measured else None


def _kind(config: RunConfig, gpus: str | None) -> str:
    """Returns a name for all runs that take as long per simulated step on this machine."""
    sections = ("task.", "network.", "rollout.")
    decisive = {key: value for key, value, _ in walk(config) if key.startswith(sections)}
    return kind_of(decisive | {"task.episode_length": None}, config.algo.name, gpus or processor())


def expected_in_all(known: Collection[Expected], num_runs: int, cores: int, at_once: int) -> str:
    """Returns a sentence about the time that several runs take together.

    Args:
        known: Times of the runs for which it is known.
        num_runs: Number of all runs.
        cores: CPU cores per run.
        at_once: Runs at the same time.
    """
    seconds = [time.seconds for time in known]
    in_all = max(sum(seconds) / at_once, *seconds, 0.0)
    unknown, where = num_runs - len(seconds), ", ".join(sorted({time.where for time in known}))
    without = f", without {unknown} that were not measured" if unknown else ""
    return (
        f"Expected: at most about {duration(in_all)} in all{without}, {at_once} at once on {cores} "
        f"core{'s' * (cores != 1)} each ({where}); less while episodes are short."
    )


def plan(config: RunConfig, cores: int) -> list[tuple[str, str]]:
    """Returns `(label, value)` pairs about a run that has not started.

    Args:
        config: Configuration of the run.
        cores: Number of CPU cores that would train it.
    """
    algo, full = config.algo, most_steps(config)
    on = f"{cores} CPU core{'s' * (cores != 1)}"
    at_most, memory = expected(config, cores), MEMORY.get(config.task.name)
    if at_most is None:
        time = "unknown: this task and network were not measured. A few generations on this machine measure them"
    else:
        time = f"at most about {duration(at_most.seconds)} on {on} ({at_most.where}), less while episodes are short"
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
    is_small = algo.population <= _POPULATION and config.engine.block is None
    if memory is not None and is_small and config.network.name == "conn_snn" and _tabled(config) is not None:
        rows.append(("memory", f"about {count(memory)} MB on CPUs, beside that of Python and JAX"))
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
