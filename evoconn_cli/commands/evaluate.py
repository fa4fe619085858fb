"""`evoconn evaluate`: returns, cost and robustness of saved policies."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from evoconn_cli.commands.options import (
    Devices,
    Plugins,
    Policy,
    argument,
    complete_reference,
    complete_saved,
    file_option,
    keys_of,
    option,
    seed_option,
    steps_option,
    takes,
)
from evoconn_cli.commands.terminal import make_console, show_notice
from evoconn_cli.config.perturbations import KINDS, parse_perturbations, swept_name
from evoconn_cli.errors import ConfigError, ExitCode, NoRunError, NothingYetError
from evoconn_cli.output import check_output, in_a_run, place_problem, whole_file
from evoconn_cli.progress.formatting import say

if TYPE_CHECKING:
    from rich.console import Console

    from evoconn_cli.evaluation.comparison import Aggregate
    from evoconn_cli.evaluation.evaluating import Evaluated
    from evoconn_cli.evaluation.opened import OpenedRun

Found = TypeVar("Found")


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Arguments and options of `evoconn evaluate`."""

    runs: Annotated[
        list[str],
        argument(
            "RUN_DIR|CKPT_DIR",
            "Runs, latest (the one trained last), grids, checkpoint directories, single checkpoints, bundles, or "
            "zoo:NAME.",
            complete=complete_saved,
        ),
    ]
    step: Annotated[str | None, steps_option("Checkpoints: N[,N...], latest, best or all.")] = None
    episodes: Annotated[int, option("N", "Episodes per run; 0 draws --plot only.", min=0)] = 128
    seed: Annotated[int, seed_option("Random seed of the episodes, independent of training.")] = 0
    policy: Policy = "deterministic"
    perturb: Annotated[
        list[str],
        option(
            "NAME=VALUE",
            f"{', '.join(KINDS)}; several values, as in mass=0.8,1.2, make a sweep.",
            complete=keys_of(KINDS),
        ),
    ] = dataclasses.field(default_factory=list)
    curve: Annotated[
        Path | None,
        file_option("Plot of a sweep (plots/NAME-sweep.png in the first run by default) or of several checkpoints."),
    ] = None
    energy: Annotated[Literal["45nm"] | None, option("45nm", "Estimate the energy of the arithmetic.")] = None
    reference: Annotated[
        list[str],
        option("TASK=RETURN", "Divide mean returns by this one, to compare tasks.", complete=complete_reference),
    ] = dataclasses.field(default_factory=list)
    json: Annotated[str | None, option("FILE|-", "Write all results as JSON; - prints them.")] = None
    csv: Annotated[Path | None, file_option("Write one line per episode as CSV.")] = None
    plot: Annotated[Path | None, file_option("Draw learning curves as .png, .pdf or .svg.")] = None
    plot_x: Annotated[
        Literal["generations", "env-steps", "time"], option("AXIS", "Axis of --plot: generations, env-steps or time.")
    ] = "generations"
    plugin: Plugins = dataclasses.field(default_factory=list)
    devices: Devices = None


@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Evaluate saved policies: returns, spikes and operations, robustness, learning curves.

    [bold]Examples[/bold]

      evoconn evaluate latest

      evoconn evaluate zoo:hopper --perturb mass=0.8,1,1.2

      evoconn evaluate runs/hopper-ec --step best --policy sampled --json -

      evoconn evaluate runs/hopper-ec --perturb obs-noise=0,0.1,0.2,0.4

      evoconn evaluate runs/hopper-ec --step all --curve over-training.png

      evoconn evaluate runs/hopper-* runs/my-grid --plot curves.png
    """
    options = _with_perturbations_among_runs(options)
    _check(options)
    options = dataclasses.replace(options, runs=_each_run(options.runs))
    console = make_console(stderr=options.json == "-")
    if options.plot is not None:
        _draw_learning_curves(options, options.plot, console)
    if options.episodes == 0:
        return
    try:
        _evaluate(options, console)
    except KeyboardInterrupt:
        say(console, "Quit.")
        raise typer.Exit(ExitCode.QUIT) from None


def _with_perturbations_among_runs(options: EvaluateOptions) -> EvaluateOptions:
    """Returns the options with `NAME=VALUE` arguments moved to `--perturb`."""

    def is_perturbation(text: str) -> bool:
        return "=" in text and text.partition("=")[0] in KINDS and not Path(text).exists()

    more = [text for text in options.runs if is_perturbation(text)]
    runs = [text for text in options.runs if not is_perturbation(text)]
    if not runs:
        raise ConfigError("no run is named. Add a run directory, or a directory of checkpoints.")
    return dataclasses.replace(options, runs=runs, perturb=[*options.perturb, *more])


def _each_run(paths: Sequence[str]) -> list[str]:
    """Returns paths with directories that hold runs, such as grids, replaced by these runs, and `latest` by its run."""
    from evoconn_cli.runs.listing import runs_named

    found = []
    for path in paths:
        named = runs_named(Path(path))
        if len(named) > 1:
            show_notice(f"{path} holds {len(named)} runs: each of them counts.")
        found += map(str, named)
    return found


def _check(options: EvaluateOptions) -> None:
    from evoconn_cli.evaluation.comparison import parse_references

    if options.episodes == 0:
        _check_only_plot(options)
    parse_references(options.reference)
    settings = parse_perturbations(options.perturb)
    if options.plot or options.curve or len(settings) > 1:
        from evoconn_cli.drawing.canvas import PLOT_SUFFIXES

        for name, path in (("--plot", options.plot), ("--curve", options.curve)):
            if path is not None:
                check_output(path, name, PLOT_SUFFIXES)
    for name, path in (("--csv", options.csv), ("--json", None if options.json == "-" else options.json)):
        if path is not None:
            check_output(Path(path), name)


def _check_only_plot(options: EvaluateOptions) -> None:
    if options.plot is None:
        raise ConfigError("--episodes 0 without --plot leaves nothing to do.")
    of_episodes = ("json", "csv", "curve", "perturb", "energy", "reference")
    if asked := [f"--{name}" for name in of_episodes if getattr(options, name)]:
        raise ConfigError(f"--episodes 0 only draws --plot: leave {' and '.join(asked)} out, or ask for episodes.")


def _draw_learning_curves(options: EvaluateOptions, plot: Path, console: Console) -> None:
    from evoconn_cli.drawing.canvas import save_figure
    from evoconn_cli.evaluation.curves import Curve, distinct_curves, learning_figure, read_curve
    from evoconn_cli.runs.directory import RunDirectory, locate

    def read(path: Path) -> tuple[Path, Curve]:
        run = RunDirectory.open(locate(path)[0])
        return run.path, read_curve(run, options.plot_x)

    curves = list(dict(_of_each_run(options.runs, read, "drawn")).values())
    save_figure(learning_figure(curves, options.plot_x), plot)
    say(console, f"learning curves: {plot}")
    if again := len(curves) - len(distinct_curves(curves)):
        say(console, f"{again} of the {len(curves)} runs have the configuration and seed of another: drawn once.")


def _evaluate(options: EvaluateOptions, console: Console) -> None:
    from evoconn_cli.evaluation.comparison import check_references, compare, parse_references
    from evoconn_cli.evaluation.tables import print_results

    settings, references = parse_perturbations(options.perturb), parse_references(options.reference)
    opened = _open_runs(options)
    check_references(references, {one.config.task.name for one in opened})
    curve = _curve_path(options, opened, swept_name(settings))
    evaluated = _run_episodes(options, opened, settings)
    aggregates = compare(evaluated, references, options.seed)
    written = _write_results(options, evaluated, aggregates, curve)  # first: a closed pipe could end the printing
    print_results(
        console,
        evaluated,
        aggregates,
        policy=options.policy,
        seed=options.seed,
        energy=options.energy,
        scaled=bool(references),
    )
    for line in written:
        say(console, line)


def _open_runs(options: EvaluateOptions) -> list[OpenedRun]:
    from evoconn_cli.engine.devices import start_jax
    from evoconn_cli.evaluation.opened import open_checkpoints

    workers = start_jax(options.devices)
    open_one = functools.partial(open_checkpoints, steps=options.step, workers=workers, note=show_notice)
    found = _of_each_run(options.runs, open_one, "evaluated")
    return list({(one.directory.path, one.generation): one for run in found for one in run}.values())


def _of_each_run(paths: Sequence[str], read: Callable[[Path], Found], done: str) -> list[Found]:
    """Returns the results of `read`; of several paths, those without a trained run are skipped with a notice.

    Args:
        paths: Paths as the user gave them, such as the expansion of `runs/*`.
        read: Function of a path.
        done: What is not done with a skipped path, such as `drawn`.

    Raises:
        EvoconnError: `read` fails for the only path, or for another reason than a missing run.
        NoRunError: No path is a trained run.
    """
    found = []
    for path in paths:
        try:
            found.append(read(Path(path)))
        except (NoRunError, NothingYetError) as error:
            if len(paths) == 1:
                raise
            show_notice(f"not {done}: {error}")
    if not found:
        raise NoRunError(
            f"none of the {len(paths)} paths is a run that was trained. Name those that `evoconn train` made."
        )
    return found


def _curve_path(options: EvaluateOptions, opened: Sequence[OpenedRun], swept: str | None) -> Path | None:
    """Returns the file of the curve; None if none is drawn.

    Raises:
        ConfigError: `--curve` is given without a sweep or several checkpoints of a run.
    """
    if options.curve is None:
        return None if swept is None else _default_curve(opened[0], swept)
    if swept is None and len({one.directory.path for one in opened}) == len(opened):
        raise ConfigError(
            "--curve draws a sweep or several checkpoints: give a perturbation several values, such as "
            "obs-noise=0,0.1,0.2, or --step, such as all."
        )
    return options.curve


def _default_curve(first: OpenedRun, swept: str) -> Path | None:
    """Returns the default file for the plot of a sweep; None if it cannot be written.

    The plot of a bundle goes beside it, because the bundle's checksums name all files in it.
    """
    path = first.output_path("plots" if first.bundle is None else None, f"{swept}-sweep.png")
    if problem := place_problem(path):
        show_notice(f"the sweep is not drawn: {problem}. --curve FILE draws it in another place.")
        return None
    return path


def _run_episodes(
    options: EvaluateOptions, opened: Sequence[OpenedRun], settings: Sequence[dict[str, float]]
) -> list[Evaluated]:
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from evoconn_cli.evaluation.evaluating import evaluate

    errors = make_console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_interactive) as progress:
        task = progress.add_task("", total=len(opened) * len(settings))
        results = evaluate(
            opened,
            settings,
            num_episodes=options.episodes,
            seed=options.seed,
            sampled=options.policy == "sampled",
            tell=lambda what: progress.update(task, description=what),
        )
        return list(progress.track(results, task_id=task))


def _write_results(
    options: EvaluateOptions, evaluated: Sequence[Evaluated], aggregates: Sequence[Aggregate], curve: Path | None
) -> list[str]:
    """Writes the requested files; returns lines that name them."""
    from evoconn_cli.evaluation.files import to_csv, to_json

    policy, seed, written = options.policy, options.seed, []
    document = functools.partial(to_json, evaluated, aggregates, policy=policy, seed=seed, energy=options.energy)
    if options.json not in (None, "-"):
        with whole_file(Path(options.json)) as partial:
            partial.write_text(document(), encoding="utf-8")
        written.append(f"results: {options.json}")
    if options.csv is not None:
        with whole_file(options.csv) as partial:
            partial.write_text(to_csv(evaluated, policy=policy, seed=seed), encoding="utf-8")
        written.append(f"episodes: {options.csv}")
    if curve is not None:
        from evoconn_cli.drawing.canvas import save_figure
        from evoconn_cli.evaluation.curves import curve_figure

        curve = curve if options.curve else in_a_run(curve)
        save_figure(curve_figure(evaluated, swept_name([one.perturbations for one in evaluated]), seed), curve)
        written.append(f"curve: {curve}")
    if options.json == "-":  # last: the files are written even if standard output is full or closed
        typer.echo(document(), nl=False)
    return written
