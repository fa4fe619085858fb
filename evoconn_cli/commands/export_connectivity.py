"""`evoconn export-connectivity`: an evolved network as files that other tools read."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from evoconn_cli.commands.options import (
    Plugins,
    Policy,
    SavedNetwork,
    flag,
    list_of,
    option,
    seed_option,
    steps_option,
    takes,
)
from evoconn_cli.commands.terminal import make_console, show_notice
from evoconn_cli.config.formats import (
    FORMATS,
    PANELS,
    STEPS_PANELS,
    ExportOptions,
    Format,
    Held,
    MissingPackageError,
    NirTau,
    Sort,
    check_format,
    find_formats,
    parse_panels,
    parse_width,
)
from evoconn_cli.config.registry import find
from evoconn_cli.errors import ConfigError, EvoconnError
from evoconn_cli.output import check_target, in_a_run, write_whole
from evoconn_cli.progress.formatting import say

if TYPE_CHECKING:
    from rich.console import Console

    from evoconn_cli.evaluation.opened import OpenedRun
    from evoconn_cli.export.connectome import ExportSource

_LONG = 10
"""Statistics that take at least this long are announced [s]."""

_LARGE = 50
"""Files of at least this size are announced [MB]."""


@dataclasses.dataclass(frozen=True)
class ExportConnectivityOptions:
    """Arguments and options of `evoconn export-connectivity`."""

    path: SavedNetwork
    formats: Annotated[
        list[str],
        typer.Option(
            "--format",
            metavar="NAMES",
            help=f"{', '.join(FORMATS)}; bundle by default.",
            autocompletion=list_of({name: one.summary for name, one in FORMATS.items()}),
        ),
    ] = dataclasses.field(default_factory=list)
    out: Annotated[
        Path | None,
        option(
            "PATH",
            "File or directory to write, or the directory of several files; the run's exports/ by default.",
            readable=False,
        ),
    ] = None
    step: Annotated[
        str | None, steps_option("Checkpoints: N[,N...], latest, best or all; some formats compare several.")
    ] = None
    policy: Policy = "deterministic"
    seed: Annotated[int, seed_option("Random seed of sampled connections and of the recorded episode.")] = 0
    episode_steps: Annotated[int | None, option("N", "Steps of the recorded episode.", min=1, default="to its end")] = (
        None
    )
    with_episode: Annotated[
        bool, flag("--with-episode", "npz, csv, parquet, graphml: write the recorded episode, too.")
    ] = False
    nir_tau: Annotated[
        NirTau, option("NAME", "nir: time constants, continuous (the true ones) or euler (for forward Euler).")
    ] = "continuous"
    verify: Annotated[
        bool,
        flag(
            "--verify", "Replay bundle and onnx without JAX and compare with the recording; alone, replay BUNDLE_DIR."
        ),
    ] = False
    sort: Annotated[
        Sort, option("ORDER", "Pictures of one step: order of the neurons of a type, degree, community or none.")
    ] = "degree"
    random_graphs: Annotated[int, option("N", "statistics, html, pictures: random graphs to compare with.", min=2)] = 20
    width: Annotated[str, option("LENGTH", "png, pdf, svg: width for text of 6 to 8 pt, such as 3.4in or 18cm.")] = (
        "7in"
    )
    title: Annotated[bool, flag("--title/--no-title", "png, pdf, svg: describe the network.")] = True
    panel: Annotated[
        list[str],
        option(
            "LETTERS",
            f"png, pdf, svg: panels, such as a,d; a to {PANELS[-1]}, with several steps to {STEPS_PANELS[-1]}.",
            default="all",
        ),
    ] = dataclasses.field(default_factory=list)
    plugin: Plugins = dataclasses.field(default_factory=list)
    force: Annotated[bool, flag("--force", "Replace existing files.")] = False

    def given(self) -> list[str]:
        """Returns the names of the options that differ from their defaults."""
        names = {"formats": "--format", "title": "--no-title"}
        usual = ExportConnectivityOptions(self.path)
        differing = (f.name for f in dataclasses.fields(self) if getattr(self, f.name) != getattr(usual, f.name))
        return [names.get(name, f"--{name.replace('_', '-')}") for name in differing]


class _Part(NamedTuple):
    """One file or directory to write."""

    format: Format
    opened: Sequence[OpenedRun]
    target: Path

    @property
    def generations(self) -> tuple[int, ...]:
        return tuple(one.generation for one in self.opened)


@takes(ExportConnectivityOptions)
def export_connectivity(options: ExportConnectivityOptions) -> None:
    """Write an evolved network as files: a bundle that anyone can run again, edge lists, graphs, statistics, pictures.

    [bold]Examples[/bold]

      evoconn export-connectivity latest

      evoconn export-connectivity runs/hopper-ec --step best --format bundle,csv,png --verify

      evoconn export-connectivity runs/hopper-ec --format pdf --width 3.4in --panel a,d --no-title --out figure.pdf

      evoconn export-connectivity runs/hopper-ec/exports/generation-120-bundle --verify
    """
    of_formats = ExportOptions(
        nir_tau=options.nir_tau,
        sort=options.sort,
        random_graphs=options.random_graphs,
        with_episode=options.with_episode,
        width=parse_width(options.width),
        title=options.title,
        panels=parse_panels(options.panel),
    )
    formats = _check(options)
    missing = _missing_packages(formats)
    if len(missing) == len(formats):
        raise EvoconnError(" ".join(missing.values()))
    from evoconn_cli.evaluation.exporting import open_steps
    from evoconn_cli.evaluation.opened import is_exported
    from evoconn_cli.runs.listing import named_run

    path = named_run(options.path)
    console = make_console()
    if options.verify and not options.formats and options.out is None and is_exported(path):
        _check_nothing_else(options)
        _verify(path, console)
        return
    opened = open_steps(path, options.step, show_notice)
    network = opened[0].network
    typed = network.neurons is not None and network.neurons.num_excitatory is not None
    kinds: dict[Held, bool] = {
        "any": True,
        "built in": find("network", opened[0].config.network.name).plugin is None,
        "spikes": network.neurons is not None,
        "typed neurons": typed and network.is_boolean and opened[0].probs is not None,
    }
    for one in formats:
        check_format(one, network.name, kinds, is_boolean=network.is_boolean)
    parts = [part for part in _parts(options, formats, opened) if part.format.name not in missing]
    _check_parts(options, parts, of_formats.panels)
    for notice in _long_work(parts, options.random_graphs):
        show_notice(notice)
    sources = _write(options, parts, of_formats, console)
    for generations in sorted({part.generations for part in parts if part.format.prints_statistics}):
        from evoconn_cli.export.analysis.reports import statistics_table

        console.print(statistics_table(sources[generations].statistics))
    if missing:
        raise EvoconnError(" ".join(missing.values()))


def _check(options: ExportConnectivityOptions) -> list[Format]:
    """Returns the formats.

    Raises:
        ConfigError: One is unknown, or an option has no effect on them.
    """
    formats = find_formats(options.formats or ["bundle"])
    verified = [one.name for one in formats if one.name in ("bundle", "onnx")]
    if options.verify and not verified:
        raise ConfigError("--verify replays bundle and onnx: add one of them to --format, or leave --verify out.")
    if options.verify and "onnx" in verified and importlib.util.find_spec("onnxruntime") is None:
        raise EvoconnError(
            "--verify runs the ONNX model with onnxruntime, which is not installed here: pip install onnxruntime, or "
            "leave --verify out."
        )
    for given in options.given():
        takers = [name for name, one in FORMATS.items() if given in one.options]
        if takers and not any(one.name in takers for one in formats):
            asked = ", ".join(one.name for one in formats)
            raise ConfigError(f"{given} does nothing for {asked}: it is for {', '.join(takers)}. Leave it out.")
    return formats


def _check_nothing_else(options: ExportConnectivityOptions) -> None:
    """Checks that a bundle to verify is given no options of an export."""
    if given := [name for name in options.given() if name != "--verify"]:
        raise ConfigError(
            f"--verify replays {options.path} as it is, and {' and '.join(given)} would do nothing. Leave that out, or "
            "export the bundle again with --out."
        )


def _missing_packages(formats: Sequence[Format]) -> dict[str, str]:
    """Returns why formats cannot be written here, by name; the others are still written."""
    missing = {}
    for one in formats:
        try:
            one.load_writer()
        except MissingPackageError as error:
            missing[one.name] = str(error)
    return missing


def _parts(
    options: ExportConnectivityOptions, formats: Sequence[Format], opened: Sequence[OpenedRun]
) -> Iterator[_Part]:
    """Yields the files and directories to write."""
    groups = [
        (one, group) for one in formats for group in ([opened] if one.compares_steps else [[run] for run in opened])
    ]
    if options.out is not None and len(groups) == 1:
        one, group = groups[0]
        known = (one.suffix, *one.suffixes)
        if options.out.suffix.lower() not in known and any(known):
            raise ConfigError(f"--out {options.out}: {one.name} is a file. End its name with {' or '.join(known)}.")
        yield _Part(one, group, options.out)
        return
    drawn = f"-sampled-{options.seed}" if options.policy == "sampled" else ""
    for one, group in groups:
        first, last = group[0].generation, group[-1].generation
        steps = f"generation-{last}" if len(group) == 1 else f"generations-{first}-to-{last}"
        euler = "-euler" if "--nir-tau" in one.options and options.nir_tau == "euler" else ""
        name = f"{steps}{drawn}{euler}{one.suffix or f'-{one.name}'}"
        yield _Part(one, group, options.out / name if options.out else opened[0].output_path("exports", name))


def _check_parts(options: ExportConnectivityOptions, parts: Sequence[_Part], panels: str) -> None:
    """Checks that all parts can be written, before any work."""
    for part in parts:
        for target in (part.target, *(part.target.with_name(part.target.stem + end) for end in part.format.beside)):
            check_target(target, force=options.force)
        if options.out is None:
            in_a_run(part.target)
        unknown = [letter for letter in panels if letter not in STEPS_PANELS]
        if unknown and len(part.opened) > 1 and "--panel" in part.format.options:
            raise ConfigError(f"--panel {unknown[0]}: the figure of several steps has {', '.join(STEPS_PANELS)}.")


def _long_work(parts: Sequence[_Part], random_graphs: int) -> Iterator[str]:
    """Yields a notice for each part of the work that takes long or writes a large file."""
    from evoconn_cli.export.analysis.statistics import statistics_seconds

    measured = {run.generation for part in parts if part.format.prints_statistics for run in part.opened}
    neurons = parts[0].opened[0].config.network.num_neurons
    seconds = statistics_seconds(neurons, random_graphs) * len(measured)
    if seconds >= _LONG:
        networks = "a network" if len(measured) == 1 else f"{len(measured)} networks"
        yield (
            f"the statistics of {networks} of {neurons} neurons, beside {random_graphs} random graphs, take about "
            f"{max(1, round(seconds / 10)) * 10} s on one CPU core; fewer --random-graphs take less."
        )
    for part in parts:
        megabytes = part.format.megabytes_per_million * part.opened[0].network.num_parameters / 1e6
        if megabytes >= _LARGE:
            yield (
                f"{part.target} takes about a minute and becomes {megabytes:.0f} MB large if half of all connections "
                "exist; npz and parquet hold the same in a few."
            )


def _write(
    options: ExportConnectivityOptions, parts: Sequence[_Part], of_formats: ExportOptions, console: Console
) -> dict[tuple[int, ...], ExportSource]:
    """Writes and names all parts; returns their sources by generations."""
    from rich.text import Text

    from evoconn_cli.evaluation.exporting import make_source

    status = console.status("")
    sources: dict[tuple[int, ...], ExportSource] = {}
    for part in parts:
        if part.generations not in sources:
            sources[part.generations] = make_source(
                part.opened,
                policy=options.policy,
                seed=options.seed,
                max_steps=options.episode_steps,
                options=of_formats,
                progress=lambda text: status.update(Text(text)),
            )
        status.update(Text(f"writing {part.target}"))
        write = functools.partial(part.format.load_writer(), sources[part.generations])
        with status if console.is_interactive else nullcontext():
            paths = write_whole(write, part.target, force=options.force)
        for written in paths:
            say(console, f"{part.format.name}: {written}")
        if options.verify and part.format.name == "bundle":
            _verify(part.target, console)
        elif options.verify and part.format.name == "onnx":
            from evoconn_cli.export.onnx_replay import verify_onnx

            say(console, f"verified: {verify_onnx(sources[part.generations], part.target)}")
    return sources


def _verify(bundle: Path, console: Console) -> None:
    from evoconn_cli.export.bundle.reading import verify_bundle

    say(console, f"verified: {verify_bundle(bundle)}")
