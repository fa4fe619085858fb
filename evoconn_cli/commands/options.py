"""Options that several commands share, and their shell completion."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from evoconn_cli.config.registry import WANDB_MODES, find, pairs
from evoconn_cli.errors import unknown_name


def one_of(*names: str) -> Callable[[str], list[str]]:
    """Returns what offers those of `names` that start with what is typed; without any the shell offers files."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def list_of(meanings: Mapping[str, str]) -> Callable[[str], list[tuple[str, str]]]:
    """Returns what offers names for each part of a list with commas, each with what it means."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        before, comma, start = incomplete.rpartition(",")
        return [(f"{before}{comma}{name}", what) for name, what in meanings.items() if name.startswith(start)]

    return complete


def complete_algo(ctx: typer.Context, incomplete: str) -> list[str]:
    """Returns the strategies that start with `incomplete` and can search the network that is named before."""
    network = ctx.params.get("network")
    found = pairs().items()
    return [algo for algo, ours in found if algo.startswith(incomplete) and (not network or network in ours)]


def complete_network(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Returns the networks that start with `incomplete`, each with the strategy that searches it.

    After a strategy only its own.
    """
    given, known = ctx.params.get("algo"), pairs()
    algos = [given] if given in known else list(known)
    offered = [(network, f"for {algo}") for algo in algos for network in known[algo]]
    return [pair for pair in offered if pair[0].startswith(incomplete)]


# Keys


def run_keys(algo: str | None = None, network: str | None = None) -> dict[str, Any]:
    """Returns the keys of the configuration of a run, each with its dataclass field; of all strategies by default."""
    from evoconn_cli.config.schema import RunConfig, walk

    known = [(name, one) for name, networks in pairs().items() for one in networks]
    chosen = [pair for pair in known if algo in (None, pair[0]) and network in (None, pair[1])] or known
    configs = [
        RunConfig(algo=find("strategy", name).default_config(), network=find("network", one).default_config())
        for name, one in chosen
    ]
    return {key: field for config in configs for key, _, field in walk(config)}


def launch_keys() -> dict[str, Any]:
    """Returns the keys of the section `launch` of a grid file, each with its dataclass field."""
    from evoconn_cli.config.launch import LaunchConfig
    from evoconn_cli.config.schema import walk

    return {key: field for key, _, field in walk(LaunchConfig(), "launch.")}


def complete_override(ctx: typer.Context, incomplete: str) -> list[str]:
    """Returns the keys of a run that start with `incomplete`, or the values of one that has names as values."""
    return _complete_entry(run_keys(ctx.params.get("algo"), ctx.params.get("network")), ctx, incomplete)


def complete_launch(ctx: typer.Context, incomplete: str) -> list[str]:
    """Returns the keys of `launch` that start with `incomplete`."""
    return _complete_entry(launch_keys(), ctx, incomplete)


def _complete_entry(keys: Mapping[str, Any], ctx: typer.Context, incomplete: str) -> list[str]:
    """Returns what an entry `KEY=VALUE` may be.

    Bash takes `=` for a word of its own: then the key is an argument before, and only the value is completed.
    """
    before = [word for word in ctx.params.get("overrides") or [] if word != "="]
    if before and before[-1] in keys:
        return _values(keys[before[-1]], incomplete)
    key, equals, start = incomplete.partition("=")
    if equals:
        return [f"{key}={value}" for value in _values(keys.get(key), start)]
    found = [f"{name}=" for name in keys if name.startswith(incomplete)]
    if "." in incomplete or len(found) < 2:
        return found
    return list(dict.fromkeys(name.partition(".")[0] + "." if "." in name else name for name in found))


def _values(field: Any, start: str) -> list[str]:
    if field is None:
        return []
    choices = field.metadata.get("choices", tuple)
    names = ("true", "false") if field.type == "bool" else choices()
    return [name for name in names if name.startswith(start)]


def keys_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Returns what offers `NAME=` for each of `names` that starts with what is typed."""
    return one_of(*(f"{name}=" for name in names))


# Checkpoints


def steps_of(*names: str, several: bool = False) -> Callable[[typer.Context, str], list[str]]:
    """Returns what offers `names` and the saved generations of the run that is named before.

    Args:
        names: Words that a step may be, such as `latest`.
        several: Whether there may be several, with commas between.
    """

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        before, comma, start = incomplete.rpartition(",") if several else ("", "", incomplete)
        # Behind an option without its value the arguments before it are not assigned to parameters yet.
        steps = [*names, *map(str, _saved(_paths(ctx.params) or ctx.args))]
        return [f"{before}{comma}{step}" for step in steps if step.startswith(start)]

    return complete


def _paths(params: Mapping[str, Any]) -> Sequence[Any]:
    given = params.get("runs") or params.get("path") or params.get("run_dir") or ()
    return given if isinstance(given, (list, tuple)) else [given]


def _saved(paths: Sequence[Any]) -> list[int]:
    """Returns the generations that runs have saved."""
    from evoconn_cli.runs.directory import saved_generations

    folders = [path if path.name == "checkpoints" else path / "checkpoints" for path in map(Path, paths)]
    try:
        return sorted({generation for folder in folders for generation in saved_generations(folder)})
    except OSError:
        return []


# Runs


def complete_run(incomplete: str) -> list[str]:
    """Returns the run directories whose path starts with `incomplete`, or that are in a directory that does.

    Where there are none the shell offers files.
    """
    folder, slash, start = incomplete.rpartition("/")
    return sorted(f"{folder}{slash}{path}" for path in _runs(Path(folder + slash), start))


def _runs(folder: Path, start: str) -> Iterator[str]:
    for path in _directories(folder):
        if path.name.startswith(start) and (start or not path.name.startswith(".")):
            if _is_run(path):
                yield path.name
            else:
                yield from (f"{path.name}/{run.name}" for run in _directories(path) if _is_run(run))


def _directories(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.expanduser().iterdir() if os.path.isdir(path)]
    except (OSError, RuntimeError):  # the latter for ~/ without a home directory
        return []


def _is_run(path: Path) -> bool:
    return os.path.isfile(path / "run.json")  # not so where it may not be looked at


POLICIES = ("deterministic", "sampled")
"""How a saved policy uses its probabilities: those above 0.5 are connections, or connections are drawn."""

PLACES = ("local", "slurm", "ray")
"""Where `launch-grid` runs cells."""

Policy = Annotated[
    str,
    typer.Option(
        metavar="POLICY",
        help="deterministic: p > 0.5; sampled: connections drawn as in training, anew for each episode.",
        autocompletion=one_of(*POLICIES),
    ),
]
Devices = Annotated[int | None, typer.Option(help="GPUs, or cores of a CPU; all by default.", show_default=False)]
Wandb = Annotated[
    str | None,
    typer.Option(
        metavar="MODE",
        help=f"W&B: {', '.join(WANDB_MODES)}; auto unless configured.",
        autocompletion=one_of(*WANDB_MODES),
        show_default=False,
    ),
]
MaxTime = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Save and exit with 75 before this is over, such as 3h50m.", show_default="no limit"
    ),
]
Distributed = Annotated[
    bool, typer.Option("--distributed", help="Train in all processes that the cluster (such as SLURM) has started.")
]
Coordinator = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Train in several processes: address of process 0.", show_default=False),
]
NumProcesses = Annotated[int | None, typer.Option(min=1, help="Number of processes.", show_default=False)]
ProcessId = Annotated[int | None, typer.Option(min=0, help="Number of this process, from 0.", show_default=False)]


def check_policy(name: str) -> None:
    """Checks the name of a policy.

    Raises:
        ConfigError: it is unknown.
    """
    if name not in POLICIES:
        raise unknown_name("policy", name, POLICIES)


def to_overrides(options: dict[str, object]) -> list[str]:
    """Returns the options that were given as `KEY=VALUE` entries, from `{key: value or None}`; texts are quoted."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in options.items() if value is not None]
