"""`evoconn evaluate`: returns, cost and robustness of a saved policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from evoconn_cli.commands.options import Devices, Policy, check_policy, complete_run, keys_of, one_of, steps_of
from evoconn_cli.commands.terminal import say, show_notice, stream_console, table_console
from evoconn_cli.config.perturbations import KINDS, parse_perturbations, setting_text, swept_name
from evoconn_cli.config.registry import names
from evoconn_cli.errors import ConfigError, ExitCode, NoRunError, NothingYetError, unknown_name

if TYPE_CHECKING:
    from rich.console import Console

    from evoconn_cli.evaluation.comparison import Aggregate
    from evoconn_cli.evaluation.evaluating import Evaluated
    from evoconn_cli.evaluation.opened import OpenedRun


@dataclasses.dataclass(frozen=True)
class Request:
    """The options of `evoconn evaluate`, as its help describes them."""

    runs: list[str]
    step: str | None
    episodes: int
    seed: int
    policy: str
    perturb: list[str]
    curve: Path | None
    energy: str | None
    reference: list[str]
    json: str | None
    csv: Path | None
    plot: Path | None
    plot_x: str
    devices: int | None

    def checked(self) -> Request:
        """Returns the request with `NAME=VALUE` arguments taken for what they are: more of `--perturb`.

        Raises:
            ConfigError: an option that cannot be followed.
        """
        request = _with_perturbations_among_runs(self)
        _check(request)
        return request

    def described(self) -> dict[str, Any]:
        """Returns what is said about all episodes beside their results."""
        return {"policy": self.policy, "seed": self.seed, "energy": self.energy}


def _with_perturbations_among_runs(request: Request) -> Request:
    def is_perturbation(text: str) -> bool:
        return "=" in text and text.partition("=")[0] in KINDS and not Path(text).exists()

    more = [text for text in request.runs if is_perturbation(text)]
    runs = [text for text in request.runs if not is_perturbation(text)]
    if not runs:
        raise ConfigError("no run is named. Add a run directory, or a directory of checkpoints.")
    return dataclasses.replace(request, runs=runs, perturb=[*request.perturb, *more])


def _check(request: Request) -> None:
    from evoconn_cli.evaluation.comparison import parse_references
    from evoconn_cli.evaluation.neurobench import ENERGY_PJ
    from evoconn_cli.output import check_output

    check_policy(request.policy)
    if request.energy is not None and request.energy not in ENERGY_PJ:
        raise unknown_name("technology of --energy", request.energy, ENERGY_PJ)
    if request.episodes == 0:
        _check_only_plot(request)
    parse_references(request.reference)
    settings = parse_perturbations(request.perturb)
    if request.plot or request.curve or len(settings) > 1:
        from evoconn_cli.drawing.canvas import PLOT_SUFFIXES

        for option, path in (("--plot", request.plot), ("--curve", request.curve)):
            if path is not None:
                check_output(path, option, PLOT_SUFFIXES)
    for option, path in (("--csv", request.csv), ("--json", None if request.json == "-" else request.json)):
        if path is not None:
            check_output(Path(path), option)


def _check_only_plot(request: Request) -> None:
    if request.plot is None:
        raise ConfigError("--episodes 0 without --plot leaves nothing to do.")
    of_episodes = {
        "--json": request.json,
        "--csv": request.csv,
        "--curve": request.curve,
        "--perturb": request.perturb,
        "--energy": request.energy,
        "--reference": request.reference,
    }
    if asked := [option for option, value in of_episodes.items() if value]:
        raise ConfigError(f"--episodes 0 only draws --plot: leave {' and '.join(asked)} out, or ask for episodes.")


def curve_path(request: Request, opened: Sequence[OpenedRun], swept: str | None) -> Path | None:
    """Returns where the curve is drawn, None for nowhere.

    Raises:
        ConfigError: there is neither a sweep nor a run with several checkpoints.
    """
    if request.curve is None:
        return None if swept is None else _default_curve(opened[0], swept)
    if swept is None and len({one.directory.path for one in opened}) == len(opened):
        raise ConfigError(
            "--curve draws a sweep or several checkpoints: give a perturbation several values, such as "
            "obs-noise=0,0.1,0.2, or --step, such as all."
        )
    return request.curve


def _default_curve(first: OpenedRun, swept: str) -> Path | None:
    """Returns where the plot of a sweep goes by default, None where nothing can be written.

    That is beside a bundle, whose files are those that its checksums name.
    """
    from evoconn_cli.output import place_problem

    short = Path(first.directory.short_path())
    where = short if short.name else first.directory.path  # that is where one stands
    name = f"{swept}-sweep.png"
    path = where / "plots" / name if first.bundle is None else where.with_name(f"{where.name}-{name}")
    if problem := place_problem(path):
        show_notice(f"the sweep is not drawn: {problem}. --curve FILE draws it in another place.")
        return None
    return path


def show_results(
    request: Request, console: Console, evaluated: Sequence[Evaluated], aggregates: Sequence[Aggregate]
) -> None:
    """Prints the tables."""
    from evoconn_cli.evaluation import tables
    from evoconn_cli.evaluation.comparison import apart
    from evoconn_cli.evaluation.tables import single_panel

    if len(evaluated) == 1:
        console.print(single_panel(evaluated[0], **request.described()))
    else:
        settings = [one.setting for one in evaluated]
        also = setting_text(settings[0], without=swept_name(settings))
        head = f"{request.policy} policy, {request.episodes} episodes, seed {request.seed}"
        say(console, f"{head}; perturbed: {also}" if also else head)
        for line in tables.runs_list(evaluated):
            say(console, line)
        console.print()
        console.print(tables.returns_table(evaluated))
        console.print(tables.figures_table(evaluated, request.energy))
    if aggregates:
        console.print(tables.aggregates_table(aggregates, scaled=bool(request.reference)))
        if not request.reference and any(len(one.runs) > 1 for one in aggregates):
            console.print("Returns of different tasks are mixed as they are: --reference TASK=RETURN scales them.")
    for note in apart(evaluated) if len(evaluated) > 1 else ():
        say(console, note)
    if request.energy is not None:
        console.print(
            "The energy is that of the additions and multiplications alone, as 32-bit floats: without memory, neurons "
            "and leakage, which usually cost more.",
            style="dim",
        )


def write_results(
    request: Request, evaluated: Sequence[Evaluated], aggregates: Sequence[Aggregate], curve: Path | None
) -> list[str]:
    """Writes the files that were asked for, and returns lines that say where they are."""
    from evoconn_cli.evaluation.files import to_csv, to_json
    from evoconn_cli.output import in_a_run, whole_file

    written = []
    if request.json not in (None, "-"):
        with whole_file(Path(request.json)) as partial:
            partial.write_text(to_json(evaluated, aggregates, **request.described()), encoding="utf-8")
        written.append(f"results: {request.json}")
    if request.csv is not None:
        with whole_file(request.csv) as partial:
            partial.write_text(to_csv(evaluated, policy=request.policy, seed=request.seed), encoding="utf-8")
        written.append(f"episodes: {request.csv}")
    if curve is not None:
        curve = curve if request.curve else in_a_run(curve)
        from evoconn_cli.drawing.canvas import save_figure
        from evoconn_cli.evaluation.curves import curve_figure

        save_figure(curve_figure(evaluated, swept_name([one.setting for one in evaluated]), request.seed), curve)
        written.append(f"curve: {curve}")
    if request.json == "-":
        typer.echo(to_json(evaluated, aggregates, **request.described()), nl=False)
    return written


Found = TypeVar("Found")


def run_evaluation(request: Request) -> None:
    """Evaluates runs, shows the results and writes what is asked for.

    Raises:
        EvoconnError: anything the user can act on, before the episodes where it can be known.
    """
    request = request.checked()
    console = table_console(stderr=request.json == "-")
    if request.plot is not None:
        _draw_learning_curves(request, console)
    if request.episodes == 0:
        return
    try:
        _evaluate(request, console)
    except KeyboardInterrupt:
        say(console, "Quit.")
        raise typer.Exit(ExitCode.QUIT) from None


def _draw_learning_curves(request: Request, console: Console) -> None:
    from evoconn_cli.drawing.canvas import save_figure
    from evoconn_cli.evaluation.curves import Curve, distinct_curves, learning_figure, read_curve
    from evoconn_cli.runs.directory import RunDirectory, locate

    assert request.plot is not None

    def read(path: Path) -> tuple[Path, Curve]:
        run = RunDirectory.open(locate(path)[0])
        return run.path, read_curve(run, request.plot_x)

    curves = list(dict(_of_each_run(request.runs, read, "drawn")).values())
    save_figure(learning_figure(curves, request.plot_x), request.plot)
    say(console, f"learning curves: {request.plot}")
    if again := len(curves) - len(distinct_curves(curves)):
        say(console, f"{again} of the {len(curves)} runs have the configuration and seed of another: drawn once.")


def _evaluate(request: Request, console: Console) -> None:
    from evoconn_cli.evaluation.comparison import check_references, compare, parse_references

    settings, references = parse_perturbations(request.perturb), parse_references(request.reference)
    opened = _open_runs(request)
    check_references(references, {one.config.task.name for one in opened})
    curve = curve_path(request, opened, swept_name(settings))
    evaluated = _run_episodes(request, opened, settings)
    aggregates = compare(evaluated, references, request.seed)
    written = write_results(request, evaluated, aggregates, curve)  # before anything that a closed pipe could end
    show_results(request, console, evaluated, aggregates)
    for line in written:
        say(console, line)


def _open_runs(request: Request) -> list[OpenedRun]:
    from evoconn_cli.engine.devices import start_jax
    from evoconn_cli.evaluation.opened import open_checkpoints

    workers = start_jax(request.devices)

    def open_one(path: Path) -> list[OpenedRun]:
        return open_checkpoints(path, request.step, workers, note=show_notice)

    found = _of_each_run(request.runs, open_one, "evaluated")
    return list({(one.directory.path, one.generation): one for run in found for one in run}.values())


def _of_each_run(paths: Sequence[str], read: Callable[[Path], Found], done: str) -> list[Found]:
    """Returns what `read` finds at each path; of several paths those without a trained run are left out with a notice.

    Args:
        paths: As the user names them, such as what the shell makes of `runs/*`.
        read: Function of a path.
        done: What is not done with a path that is left out, such as `drawn`.

    Raises:
        EvoconnError: what `read` raises for a path that is the only one, or for any other reason.
        NoRunError: no path is a trained run.
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


def _run_episodes(
    request: Request, opened: Sequence[OpenedRun], settings: Sequence[dict[str, float]]
) -> list[Evaluated]:
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from evoconn_cli.evaluation.evaluating import evaluate

    errors = stream_console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_interactive) as progress:
        task = progress.add_task("", total=len(opened) * len(settings))
        results = evaluate(
            opened,
            settings,
            num_episodes=request.episodes,
            seed=request.seed,
            sampled=request.policy == "sampled",
            tell=lambda what: progress.update(task, description=what),
        )
        return list(progress.track(results, task_id=task))


AXES = ("generations", "env-steps", "time")


def evaluate(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_DIR|CKPT_DIR",
            help="Run directories, their checkpoints directories, single steps in there, or exported bundles.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ],
    step: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N...]|latest|best|all",
            help="Checkpoints: the numbers of generations, the latest, the best of those saved, or all.",
            autocompletion=steps_of("latest", "best", "all", several=True),
            show_default="latest",
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(min=0, help="Episodes of each run; 0 only draws --plot.")] = 128,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of the episodes; no draw is one of training's.")
    ] = 0,
    policy: Policy = "deterministic",
    perturb: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help=f"{', '.join(KINDS)}. Several values, as in mass=0.8,1.2, make a sweep.",
            autocompletion=keys_of(KINDS),
            show_default=False,
        ),
    ] = None,
    curve: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="Plot of a sweep, plots/NAME-sweep.png in the first run by default; or of several checkpoints.",
            show_default=False,
        ),
    ] = None,
    energy: Annotated[
        str | None,
        typer.Option(
            metavar="45nm",
            help="Estimate the energy of the arithmetic.",
            autocompletion=one_of("45nm"),
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK=RETURN",
            help="Divide mean returns by it to compare tasks.",
            autocompletion=keys_of(names("task", hidden=False)),
            show_default=False,
        ),
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="All results as JSON; - to the terminal.", show_default=False),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", readable=False, help="One line for each episode.", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="Learning curves of the runs, .png, .pdf or .svg.",
            show_default=False,
        ),
    ] = None,
    plot_x: Annotated[
        str,
        typer.Option(
            metavar="AXIS", help="Axis of --plot: generations, env-steps or time.", autocompletion=one_of(*AXES)
        ),
    ] = "generations",
    devices: Devices = None,
) -> None:
    """Evaluate saved policies: returns, spikes and operations, robustness, learning curves.

    [bold]Examples[/bold]

      evoconn evaluate runs/hopper-ec

      evoconn evaluate runs/hopper-ec --step best --policy sampled --json -

      evoconn evaluate runs/hopper-ec --perturb obs-noise=0,0.1,0.2,0.4

      evoconn evaluate runs/hopper-ec --step all --curve over-training.png

      evoconn evaluate runs/hopper-* --plot curves.png
    """
    run_evaluation(
        Request(
            runs=runs,
            step=step,
            episodes=episodes,
            seed=seed,
            policy=policy,
            perturb=perturb or [],
            curve=curve,
            energy=energy,
            reference=reference or [],
            json=json,
            csv=csv,
            plot=plot,
            plot_x=plot_x,
            devices=devices,
        )
    )
