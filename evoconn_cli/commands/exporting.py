"""What `evoconn export-connectivity` does with its options: check them all, open, write, say where."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from evoconn_cli.commands.ending import say, show_notice, table_console
from evoconn_cli.commands.export_files import check_target, write_whole
from evoconn_cli.commands.options import check_policy
from evoconn_cli.errors import ConfigError, EvoconnError, unknown_name
from evoconn_cli.export.formats import FORMATS, Format, MissingPackageError, check_format, find_formats
from evoconn_cli.export.source import NIR_TAUS, PANELS, SORTS, STEPS_PANELS, ExportOptions, ExportSource
from evoconn_cli.output import in_a_run

if TYPE_CHECKING:
    from rich.console import Console

    from evoconn_cli.runs.opened import OpenedRun


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
    from evoconn_cli.runs.exporting import make_source, open_steps
    from evoconn_cli.runs.opened import is_exported

    console = table_console()
    if request.verify and request.formats is None and request.out is None and is_exported(request.path):
        _check_nothing_else(request)
        _verify(request.path, console)
        return
    opened = open_steps(request.path, request.step, show_notice)
    for one in formats:
        check_format(one, opened[0].config.network.name)
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
        from evoconn_cli.export.analysis.table import statistics_table

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
    from evoconn_cli.export.bundle.verification import verify_bundle

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
