"""`evoconn export-connectivity`: an evolved network as files that other tools read."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evoconn_cli.commands.options import Policy, check_policy, complete_run, list_of, one_of, steps_of
from evoconn_cli.commands.terminal import say, show_notice, table_console
from evoconn_cli.config.formats import (
    FORMATS,
    NIR_TAUS,
    PANELS,
    SORTS,
    STEPS_PANELS,
    ExportOptions,
    Format,
    MissingPackageError,
    check_format,
    find_formats,
)
from evoconn_cli.errors import ConfigError, EvoconnError, unknown_name
from evoconn_cli.output import in_a_run, is_special, partial_path, place_problem, put_in_place

if TYPE_CHECKING:
    from rich.console import Console

    from evoconn_cli.evaluation.opened import OpenedRun
    from evoconn_cli.export.connectome import ExportSource


def check_target(target: Path, force: bool) -> None:
    """Checks that `target` can be written.

    Raises:
        ConfigError: it exists already, or its place cannot be written.
    """
    if os.path.exists(target) and not force and not is_special(target):
        raise ConfigError(f"{target} exists already. Name another --out, or replace it with --force.")
    if problem := place_problem(target):
        raise ConfigError(f"{target} cannot be written: {problem}. Name another --out.")


def write_whole(one: Format, source: ExportSource, target: Path, force: bool) -> list[Path]:
    """Writes a format to `target`, whole or not at all, and returns all files and directories that are there now.

    Args:
        one: the format.
        source: what is exported.
        target: a file, or a directory; with `force` the files in it that have the same names are replaced.
        force: whether what exists is replaced.

    Raises:
        MissingPackageError: a package that the format needs is missing.
        EvoconnError: it cannot be written, or exists.
    """
    writer = one.load_writer()
    target = target if target.name not in ("", "..") else target.resolve()
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial_path(folder / "export", directory=True) as partial:
            writer(source, partial / target.name)
            written = sorted(partial.iterdir())
            for entry in written:
                check_target(folder / entry.name, force)
            for entry in written:
                _move(entry, folder / entry.name)
    except OSError as error:
        raise EvoconnError(f"{target} cannot be written: {error.strerror or error}. Name another --out.") from None
    return [folder / entry.name for entry in written]


def _move(source: Path, target: Path) -> None:
    """Moves a file or directory; of a directory that exists, the files that have the same names are replaced."""
    if source.is_dir() and target.is_dir():
        for entry in source.iterdir():
            _move(entry, target / entry.name)
    else:
        put_in_place(source, target)


_LONG = 10
"""Statistics that take this long are announced [s]."""

_LARGE = 50
"""Files as large as this are announced [MB]."""


@dataclasses.dataclass(frozen=True)
class Request:
    """The options of `evoconn export-connectivity`, as its help describes them."""

    path: Path
    formats: list[str] | None
    out: Path | None
    step: str | None
    policy: str
    seed: int
    episode_steps: int | None
    verify: bool
    force: bool
    options: ExportOptions


@dataclasses.dataclass(frozen=True)
class _Part:
    """One thing to write."""

    format: Format
    opened: list[OpenedRun]
    target: Path


def parse_width(text: str) -> float:
    """Returns the length that `text` names, such as `7in` or `18cm` [inches].

    Raises:
        ConfigError: it names none from 1 to 40 inches.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+) *(in|cm|mm)", text.strip())
    inches = float(found[1]) / {"in": 1.0, "cm": 2.54, "mm": 25.4}[found[2]] if found else 0.0
    if not 1 <= inches <= 40:
        raise ConfigError(f"--width {text}: expected a length from 1in to 40in, such as 7in, 3.4in, 18cm or 180mm.")
    return inches


def parse_panels(texts: Sequence[str]) -> str:
    """Returns the letters in lists such as `a,d`, each once.

    Raises:
        ConfigError: one is not the letter of a panel.
    """
    letters = dict.fromkeys(letter.strip().lower() for text in texts for letter in text.split(","))
    for letter in letters:
        if len(letter) != 1 or letter not in PANELS:
            raise ConfigError(f"--panel {','.join(texts)}: {letter!r} is no panel. Known: {', '.join(PANELS)}.")
    return "".join(letters)


def run_export(request: Request) -> None:
    """Writes a network in every format that is asked for, and prints what was written.

    Raises:
        EvoconnError: anything the user can act on, before the first file where it can be known.
    """
    from rich.text import Text

    formats = _check(request)
    missing = _missing_packages(formats)
    if len(missing) == len(formats):
        raise EvoconnError(" ".join(missing.values()))
    from evoconn_cli.evaluation.exporting import make_source, open_steps
    from evoconn_cli.evaluation.opened import is_exported

    console = table_console()
    if request.verify and request.formats is None and request.out is None and is_exported(request.path):
        _check_nothing_else(request)
        _verify(request.path, console)
        return
    opened = open_steps(request.path, request.step, show_notice)
    network = opened[0].network
    typed = network.is_boolean and network.neurons is not None and network.neurons.num_excitatory is not None
    for one in formats:
        check_format(one, network.name, has_spikes=network.neurons is not None, has_typed_neurons=typed)
    parts = [part for part in _parts(request, formats, opened) if part.format.name not in missing]
    for part in parts:
        for target in (part.target, *(part.target.with_name(part.target.stem + end) for end in part.format.beside)):
            check_target(target, request.force)
        if request.out is None:
            in_a_run(part.target)
        _check_panels(part, request.options.panels)
    for notice in _long_work(parts, request.options.random_graphs):
        show_notice(notice)
    status = console.status("")
    sources: dict[tuple[int, ...], ExportSource] = {}
    for part in parts:
        generations = tuple(one.generation for one in part.opened)
        if generations not in sources:
            sources[generations] = make_source(
                part.opened,
                policy=request.policy,
                seed=request.seed,
                max_steps=request.episode_steps,
                options=request.options,
                progress=lambda text: status.update(Text(text)),
            )
        status.update(Text(f"writing {part.target}"))
        with status if console.is_interactive else nullcontext():
            paths = write_whole(part.format, sources[generations], part.target, request.force)
        for written in paths:
            say(console, f"{part.format.name}: {written}")
        if request.verify and part.format.name == "bundle":
            _verify(part.target, console)
    printed = {tuple(one.generation for one in part.opened) for part in parts if part.format.prints_statistics}
    for generations in sorted(printed):
        from evoconn_cli.export.analysis.reports import statistics_table

        console.print(statistics_table(sources[generations].statistics))
    if missing:
        raise EvoconnError(" ".join(missing.values()))


def _missing_packages(formats: Sequence[Format]) -> dict[str, str]:
    """Returns why formats cannot be written here, by their names: the others are written all the same."""
    missing = {}
    for one in formats:
        try:
            one.load_writer()
        except MissingPackageError as error:
            missing[one.name] = str(error)
    return missing


def _long_work(parts: Sequence[_Part], random_graphs: int) -> Iterator[str]:
    """Yields a notice for each part of the work that takes long or makes a large file."""
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


def _verify(bundle: Path, console: Console) -> None:
    from evoconn_cli.export.bundle.reading import verify_bundle

    say(console, f"verified: {verify_bundle(bundle)}")


def _check(request: Request) -> list[Format]:
    formats = find_formats(request.formats or ["bundle"])
    if request.verify and "bundle" not in [one.name for one in formats]:
        raise ConfigError("--verify replays a bundle: add bundle to --format, or leave --verify out.")
    check_policy(request.policy)
    if request.options.nir_tau not in NIR_TAUS:
        raise unknown_name("time constant of --nir-tau", request.options.nir_tau, NIR_TAUS)
    if request.options.sort not in SORTS:
        raise unknown_name("--sort", request.options.sort, SORTS)
    for option in _options_given(request):
        if not any(option in one.options for one in formats):
            asked = ", ".join(one.name for one in formats)
            heeding = ", ".join(one.name for one in FORMATS.values() if option in one.options)
            raise ConfigError(f"{option} does nothing for {asked}: it is for {heeding}. Leave it out.")
    return formats


def _options_given(request: Request) -> list[str]:
    """Returns the options of single formats that are not as by default."""
    usual = ExportOptions()
    given = {
        "--episode-steps": request.episode_steps is not None,
        "--nir-tau": request.options.nir_tau != usual.nir_tau,
        "--sort": request.options.sort != usual.sort,
        "--with-episode": request.options.with_episode,
        "--random-graphs": request.options.random_graphs != usual.random_graphs,
        "--width": request.options.width != usual.width,
        "--no-title": not request.options.title,
        "--panel": request.options.panels != usual.panels,
    }
    return [option for option, is_given in given.items() if is_given]


def _check_nothing_else(request: Request) -> None:
    """Checks that a bundle which is only verified is given no options of an export."""
    given = _options_given(request)
    given += ["--step"] if request.step is not None else []
    given += ["--policy"] if request.policy != "deterministic" else []
    given += ["--seed"] if request.seed else []
    given += ["--force"] if request.force else []
    if given:
        raise ConfigError(
            f"--verify replays {request.path} as it is, and {' and '.join(given)} would do nothing. Leave that out, or "
            "export the bundle again with --out."
        )


def _parts(request: Request, formats: Sequence[Format], opened: Sequence[OpenedRun]) -> Iterator[_Part]:
    """Yields what is to be written, and where."""
    groups = [(one, group) for one in formats for group in _groups(one, opened)]
    if request.out is not None and len(groups) == 1:
        known = (groups[0][0].suffix, *groups[0][0].suffixes)
        if request.out.suffix.lower() not in known and any(known):
            names = " or ".join(known)
            raise ConfigError(f"--out {request.out}: {groups[0][0].name} is a file. End its name with {names}.")
        yield _Part(*groups[0], request.out)
        return
    folder = request.out or Path(opened[0].directory.short_path()) / "exports"
    drawn = f"-sampled-{request.seed}" if request.policy == "sampled" else ""
    for one, group in groups:
        first, last = group[0].generation, group[-1].generation
        steps = f"generation-{last}" if len(group) == 1 else f"generations-{first}-to-{last}"
        euler = "-euler" if "--nir-tau" in one.options and request.options.nir_tau == "euler" else ""
        yield _Part(one, group, folder / f"{steps}{drawn}{euler}{one.suffix or f'-{one.name}'}")


def _check_panels(part: _Part, panels: str) -> None:
    unknown = [letter for letter in panels if letter not in STEPS_PANELS]
    if unknown and len(part.opened) > 1 and "--panel" in part.format.options:
        raise ConfigError(f"--panel {unknown[0]}: the figure of several steps has {', '.join(STEPS_PANELS)}.")


def _groups(one: Format, opened: Sequence[OpenedRun]) -> list[list[OpenedRun]]:
    return [list(opened)] if one.compares_steps else [[run] for run in opened]


def export_connectivity(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR|CKPT_DIR|BUNDLE_DIR",
            help="A run, its checkpoints, one step in there, or a bundle.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="NAME[,NAME...]",
            help=f"{', '.join(FORMATS)}; bundle by default.",
            autocompletion=list_of({name: one.summary for name, one in FORMATS.items()}),
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            help="File or directory to write; with several formats or steps, the directory that holds them. In the "
            "run's exports/ by default.",
            show_default=False,
        ),
    ] = None,
    step: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N...]|latest|best|all",
            help="Checkpoints; formats that cannot compare several are written for each.",
            autocompletion=steps_of("latest", "best", "all", several=True),
            show_default="latest",
        ),
    ] = None,
    policy: Policy = "deterministic",
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of sampled connections and of the recorded episode.")
    ] = 0,
    episode_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Cut the recorded episode after so many steps.", show_default="to its end"),
    ] = None,
    with_episode: Annotated[
        bool,
        typer.Option(
            "--with-episode", help="Write the recorded episode beside the tables of npz, csv, parquet, graphml."
        ),
    ] = False,
    nir_tau: Annotated[
        str,
        typer.Option(
            metavar="continuous|euler",
            help="Time constants of nir: the true ones, or those for forward Euler.",
            autocompletion=one_of(*NIR_TAUS),
        ),
    ] = "continuous",
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Replay the bundle in a process without jax, and compare spike by spike; without --format and --out, "
            "that of BUNDLE_DIR.",
        ),
    ] = False,
    sort: Annotated[
        str,
        typer.Option(
            metavar="|".join(SORTS),
            help="Order of the neurons of a type in html, and in png of a single step.",
            autocompletion=one_of(*SORTS),
        ),
    ] = "degree",
    random_graphs: Annotated[
        int, typer.Option(min=2, help="How many the statistics are compared with, in statistics, png and html.")
    ] = 20,
    width: Annotated[
        str,
        typer.Option(metavar="LENGTH", help="Width of png, pdf and svg, for text of 6 to 8 pt: such as 3.4in or 18cm."),
    ] = "7in",
    title: Annotated[
        bool, typer.Option("--title/--no-title", help="Write what the network is above png, pdf and svg.")
    ] = True,
    panel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LETTER[,LETTER...]",
            help=f"Panels of png, pdf and svg: {PANELS[0]} to {PANELS[-1]}; with several steps {STEPS_PANELS[0]} to "
            f"{STEPS_PANELS[-1]}.",
            show_default="all",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Write an evolved network as files: a bundle that anyone can run again, edge lists, graphs, statistics, pictures.

    [bold]Examples[/bold]

      evoconn export-connectivity runs/hopper-ec

      evoconn export-connectivity runs/hopper-ec --step best --format bundle,csv,png --verify

      evoconn export-connectivity runs/hopper-ec --format pdf --width 3.4in --panel a,d --no-title --out figure.pdf

      evoconn export-connectivity runs/hopper-ec/exports/generation-120-bundle --verify
    """
    from evoconn_cli.config.formats import ExportOptions

    run_export(
        Request(
            path=path,
            formats=formats,
            out=out,
            step=step,
            policy=policy,
            seed=seed,
            episode_steps=episode_steps,
            verify=verify,
            force=force,
            options=ExportOptions(
                nir_tau=nir_tau,
                sort=sort,
                random_graphs=random_graphs,
                with_episode=with_episode,
                width=parse_width(width),
                title=title,
                panels=parse_panels(panel or []),
            ),
        )
    )
