"""Options that several commands share, their shell completion, and the decorator that declares options once."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from evoconn_cli.config.registry import Kind, WandbMode, entries, find, names, pairs, zoo_names
from evoconn_cli.errors import EvoconnError

Options = TypeVar("Options")


def takes(options: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Returns a decorator for commands: Typer gives them the fields of the dataclass `options`, as one value.

    Inherited fields come last.
    """
    hints = get_type_hints(options, include_extras=True)
    fields = dataclasses.fields(options)  # pyright: ignore[reportArgumentType]
    parameters = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=_default(field), annotation=hints[field.name]
        )
        for field in sorted(fields, key=lambda field: field.name not in options.__annotations__)
    ]

    def decorate(command: Callable[[Options], None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            command(options(**given))

        run.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
        return run

    return decorate


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


# Names


def one_of(*names: str) -> Callable[[str], list[str]]:
    """Returns a completer for `names`; if none of them fits, the shell offers files."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def complete_task(incomplete: str) -> list[str]:
    """Returns the tasks that start with `incomplete`, those of installed plug-ins too."""
    return one_of(*names("task", hidden=False))(incomplete)


def list_of(meanings: Mapping[str, str]) -> Callable[[str], list[tuple[str, str]]]:
    """Returns a completer for lists of names separated by commas, each with its meaning."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        before, comma, start = incomplete.rpartition(",")
        return [(f"{before}{comma}{name}", what) for name, what in meanings.items() if name.startswith(start)]

    return complete


def complete_algo(ctx: typer.Context, incomplete: str) -> list[str]:
    """Returns the strategies that start with `incomplete` and can search the network given before."""
    network = ctx.params.get("network")
    known = pairs()
    fits = [algo for algo in names("strategy") if not network or algo not in known or network in known[algo]]
    return [algo for algo in fits if algo.startswith(incomplete)]


def complete_network(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Returns the networks that start with `incomplete`, of the strategy given before or of all."""
    given, known = ctx.params.get("algo"), pairs()
    algos = [given] if given in known else list(known)
    offered = [(network, f"for {algo}") for algo in algos for network in known[algo]]
    paired = {network for networks in known.values() for network in networks}
    offered += [(network, "of a plug-in") for network in names("network") if network not in paired]
    return [pair for pair in offered if pair[0].startswith(incomplete)]


# Keys


def run_keys(task: str | None = None, algo: str | None = None, network: str | None = None) -> dict[str, Any]:
    """Returns the configuration keys of a run with their dataclass fields.

    Args:
        task: Task whose keys they are; all that are not those of an installed plug-in by default.
        algo: Strategy, likewise.
        network: Network, likewise.
    """
    from evoconn_cli.config.fields import walk
    from evoconn_cli.config.schema import RunConfig

    given: tuple[tuple[Kind, str | None], ...] = ("task", task), ("strategy", algo), ("network", network)
    for kind, name in given:
        with contextlib.suppress(EvoconnError):  # unknown, or a plug-in that cannot be imported
            if name is not None:
                find(kind, name)
    known = [(name, one) for name, networks in pairs().items() for one in networks]
    chosen = [pair for pair in known if algo in (None, pair[0]) and network in (None, pair[1])] or known
    tasks = {entry.config: entry for entry in entries("task") if task in (None, entry.name)} or {"": entries("task")[0]}
    configs = [
        RunConfig(
            task=of_task.default_config(),
            algo=find("strategy", name).default_config(),
            network=find("network", one).default_config(),
        )
        for name, one in chosen
        for of_task in tasks.values()
    ]
    return {key: field for config in configs for key, _, field in walk(config)}


def launch_keys() -> dict[str, Any]:
    """Returns the keys of the sections `launch` and `search` of a grid file with their dataclass fields."""
    from evoconn_cli.config.fields import walk
    from evoconn_cli.config.launch import LaunchConfig
    from evoconn_cli.config.search import Search

    keys = [*walk(LaunchConfig(), "launch."), *walk(Search(), "search.")]
    return {key: field for key, _, field in keys if key != "search.space"}


def complete_override(ctx: typer.Context, incomplete: str) -> list[str]:
    """Returns the configuration keys that start with `incomplete`, or the named values of a key."""
    chosen = (ctx.params.get(name) for name in ("task", "algo", "network"))
    return _complete_entry(run_keys(*chosen), ctx, incomplete)


def complete_launch(ctx: typer.Context, incomplete: str) -> list[str]:
    """Returns the keys of `launch` and `search` that start with `incomplete`."""
    return _complete_entry(launch_keys(), ctx, incomplete)


def _complete_entry(keys: Mapping[str, Any], ctx: typer.Context, incomplete: str) -> list[str]:
    """Returns completions of an entry `KEY=VALUE`.

    Bash treats `=` as a separate word: the key is then an earlier argument, and only the value is completed.
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


def complete_reference(incomplete: str) -> list[str]:
    """Returns the completions of an entry `TASK=RETURN`."""
    return keys_of(names("task", hidden=False))(incomplete)


def keys_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Returns a completer for entries `NAME=...` with one of `names`."""
    return one_of(*(f"{name}=" for name in names))


# Checkpoints


def steps_of(*names: str, several: bool = False) -> Callable[[typer.Context, str], list[str]]:
    """Returns a completer for `names` and the saved generations of the runs given before.

    Args:
        names: Words that name a step, such as `latest`.
        several: Whether several steps may be given, separated by commas.
    """

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        before, comma, start = incomplete.rpartition(",") if several else ("", "", incomplete)
        # After an option without a value, the arguments before it are not assigned to parameters yet.
        given = ctx.params.get("runs") or ctx.params.get("path") or ctx.params.get("run_dir") or ctx.args
        paths = given if isinstance(given, (list, tuple)) else [given]
        steps = [*names, *map(str, _saved(paths))]
        return [f"{before}{comma}{step}" for step in steps if step.startswith(start)]

    return complete


def _saved(paths: Sequence[Any]) -> list[int]:
    """Returns the generations that any of the runs has saved."""
    from evoconn_cli.runs.directory import saved_generations
    from evoconn_cli.runs.listing import named_run

    try:
        named = [named_run(Path(path)) for path in paths]
        folders = [path if path.name == "checkpoints" else path / "checkpoints" for path in named]
        return sorted({generation for folder in folders for generation in saved_generations(folder)})
    except (OSError, EvoconnError):
        return []


# Runs


def complete_run(incomplete: str) -> list[str]:
    """Returns `latest` and the runs whose path starts with `incomplete`, or that are in such a directory.

    If there are none, the shell offers files.
    """
    folder, slash, start = incomplete.rpartition("/")
    latest = ["latest"] if "latest".startswith(incomplete) and any(_runs(Path("runs"), "")) else []
    return latest + sorted(f"{folder}{slash}{path}" for path in _runs(Path(folder + slash), start))


def complete_saved(incomplete: str) -> list[str]:
    """Returns what `complete_run` does, and the networks of the zoo that start with `incomplete`."""
    return [*complete_run(incomplete), *one_of(*(f"zoo:{name}" for name in zoo_names()))(incomplete)]


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
    except (OSError, RuntimeError):  # RuntimeError: ~/ without a home directory
        return []


def _is_run(path: Path) -> bool:
    return os.path.isfile(path / "run.json")  # False for a directory that cannot be read


# Options


def option(metavar: str, help: str, *, complete: Any = None, default: bool | str = True, **settings: Any) -> Any:
    """Returns an option that takes a value.

    Args:
        metavar: Placeholder of the value in the help.
        help: Help text.
        complete: Completer of the shell.
        default: Text that the help shows as the default value; by default the value itself, unless it is None.
        settings: Further settings of `typer.Option`, such as `min`.
    """
    return typer.Option(metavar=metavar, help=help, autocompletion=complete, show_default=default, **settings)


def flag(name: str, help: str) -> Any:
    """Returns an option `name`, such as `--force`, that takes no value."""
    return typer.Option(name, help=help)


def argument(metavar: str, help: str, *, complete: Any = None) -> Any:
    """Returns a positional argument; as for `option`."""
    return typer.Argument(metavar=metavar, help=help, autocompletion=complete)


file_option = functools.partial(option, "FILE", readable=False)
seed_option = functools.partial(option, "N", min=0, max=2**32 - 1)
steps_option = functools.partial(
    option, "STEPS", complete=steps_of("latest", "best", "all", several=True), default="latest"
)
entries_argument = functools.partial(argument, "KEY=VALUE", complete=complete_override)

Policy = Annotated[
    Literal["deterministic", "sampled"],
    option("POLICY", "deterministic: p > 0.5 connects; sampled: new connections for each episode."),
]
Devices = Annotated[int | None, option("N", "Number of GPUs, or of CPU cores; all by default.")]
MaxTime = Annotated[
    str | None,
    option("TIME", "Save and exit with code 75 before this time is over, such as 3h50m.", default="no limit"),
]
Plugins = Annotated[
    list[str],
    option(
        "FILE|MODULE", "Load a task, network or strategy of your own; may be repeated. EVOCONN_PLUGINS does the same."
    ),
]
SavedNetwork = Annotated[
    Path,
    argument(
        "RUN_DIR|CKPT_DIR|BUNDLE_DIR",
        "A run, its checkpoint directory, a single checkpoint, a bundle, zoo:NAME, or latest: the run trained last.",
        complete=complete_saved,
    ),
]


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """Options of all commands that train; help shows them after the command's own."""

    plugin: Plugins = dataclasses.field(default_factory=list)
    devices: Devices = None
    wandb: Annotated[
        WandbMode | None, option("MODE", "Weights & Biases: auto, online, offline or disabled; auto unless configured.")
    ] = None
    max_time: MaxTime = None
    distributed: Annotated[
        bool, flag("--distributed", "Train in all processes that the cluster, such as SLURM, has started.")
    ] = False
    coordinator: Annotated[str | None, option("HOST:PORT", "Address of process 0, to train in several processes.")] = (
        None
    )
    num_processes: Annotated[int | None, option("N", "Number of processes.", min=1)] = None
    process_id: Annotated[int | None, option("N", "Number of this process, from 0.", min=0)] = None

    @property
    def trains_alone(self) -> bool:
        """Whether no option names other processes to train with."""
        return not self.distributed and self.coordinator is self.num_processes is self.process_id is None


def to_overrides(options: Mapping[str, object]) -> list[str]:
    """Returns `KEY=VALUE` entries for the options that are not None; texts are quoted."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in options.items() if value is not None]
