"""`evoconn render`: a policy in motion, as a video, a page or a still."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from evoconn_cli.commands.options import Policy, check_policy, complete_run, one_of, steps_of
from evoconn_cli.commands.terminal import say, show_notice, stream_console
from evoconn_cli.config.rendering import CAMERAS, make_options
from evoconn_cli.errors import ConfigError
from evoconn_cli.output import check_output, in_a_run

if TYPE_CHECKING:
    from evoconn_cli.evaluation.opened import OpenedRun
    from evoconn_cli.rendering.recording import Subject


class RenderProgress:
    """A bar for the part of the work that is going on; notes stay in the scrollback.

    Args:
        console: where it is shown.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> RenderProgress:
        if self._console.is_interactive:
            columns = (
                TextColumn("{task.description:<8}"),
                BarColumn(complete_style="cyan", finished_style="cyan"),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeRemainingColumn(compact=True),
            )
            self._bars = Progress(*columns, console=self._console, transient=True)
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def start(self, what: str, total: int, unit: str) -> None:
        """Begins a part of the work with so many units, such as `drawing`, 240, `frames`."""
        if self._bars is None:
            self._console.print(f"{what} {total:,} {unit}", highlight=False)
            return
        for task in self._bars.task_ids:
            self._bars.remove_task(task)
        # It moves without counting until the first unit is done, which waits for what is compiled.
        self._task = self._bars.add_task(what, total=total, unit=unit, start=False)

    def advance(self, done: int) -> None:
        """Shows that `done` units of it are done."""
        if self._bars is not None:
            self._bars.start_task(self._task)
            self._bars.update(self._task, completed=done)

    def note(self, message: str) -> None:
        """Shows a sentence."""
        self._console.print(message, markup=False, highlight=False, emoji=False, soft_wrap=True)


def make_subject(opened: OpenedRun, *, policy: str, seed: int) -> Subject:
    """Returns what is rendered.

    Args:
        opened: Opened run.
        policy: `deterministic`, or `sampled` for other connections in each episode, the same as in an evaluation.
        seed: Random seed of sampled connections.
    """
    from evoconn_cli.rendering.recording import Subject, neurons_of

    config = opened.config
    about = [config.network.name, f"{config.network.num_neurons} neurons", f"generation {opened.generation}"]
    if opened.bundle is not None:
        about.append("edited bundle" if opened.edit else "bundle")
    if policy == "sampled":
        about.append("sampled")
    return Subject(
        task=opened.task,
        network=opened.network,
        neurons=neurons_of(opened.network),
        params_of=lambda episode: opened.policy_params(policy, seed, episode),
        about=", ".join(about),
        warmup_steps=config.rollout.warmup_steps,
    )


def default_target(opened: OpenedRun, *, policy: str, seed: int, episode: int) -> Path:
    """Returns the file in the run that shows this policy from this episode of this seed on."""
    parts = [f"generation-{opened.generation}", f"seed-{seed}"]
    if policy == "sampled":
        parts.append("sampled")
    if episode:
        parts.append(f"episode-{episode}")
    return opened.directory.path / "videos" / f"{'-'.join(parts)}.mp4"


def render(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR|CKPT_DIR|BUNDLE_DIR",
            help="A run, its checkpoints, one step in there, or an exported bundle.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            readable=False,
            help="File to write or replace: .mp4, .gif, .html (a page) or .png; an mp4 in the run by default.",
            show_default=False,
        ),
    ] = None,
    step: Annotated[
        str | None,
        typer.Option(
            metavar="STEP",
            help="Checkpoint: latest, the best of those saved, or the number of a generation.",
            autocompletion=steps_of("latest", "best"),
            show_default="latest",
        ),
    ] = None,
    episode: Annotated[
        int, typer.Option(min=0, max=10**9, help="Number of the first episode, as evaluate --csv has it.")
    ] = 0,
    episodes: Annotated[int, typer.Option(min=1, max=10**6, help="Episodes to show, one after the other.")] = 1,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Cut each episode after so many steps; a .png shows the moment after them.",
            show_default="to its end",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of the initial states and of sampled connections.")
    ] = 0,
    policy: Policy = "deterministic",
    camera: Annotated[
        str, typer.Option(metavar="VIEW", help="track, side or front.", autocompletion=one_of(*CAMERAS))
    ] = "track",
    fps: Annotated[
        float | None, typer.Option(help="Frames a second, 1 to 240.", show_default="30, 25 for .gif")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(help="0.01 to 100; 0.5 is slow motion at half the speed.", show_default="1")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WIDTHxHEIGHT", help="In pixels, 64 to 4096 each.", show_default="640x480")
    ] = None,
    overlay: Annotated[bool, typer.Option(help="Draw spikes, rates and rewards beside the body.")] = True,
    wandb: Annotated[bool, typer.Option("--wandb", help="Upload the file to the run at W&B.")] = False,
) -> None:
    """Show a trained policy, with its spikes, as a video, a page or a still.

    [bold]Examples[/bold]

      evoconn render runs/hopper-ec

      evoconn render runs/hopper-ec --out hopper.html

      evoconn render runs/hopper-ec --step best --out hopper.gif --size 480x360 --fps 20 --steps 500
    """
    from evoconn_cli.evaluation.opened import open_run

    options = make_options(
        out or Path("video.mp4"),
        fps=fps,
        speed=speed,
        size=size,
        camera=camera,
        has_overlay=overlay,
        still_at_end=steps is not None,
    )
    check_policy(policy)
    if out is not None:
        check_output(out, "--out")
    console = stream_console()
    opened = open_run(path, step, note=show_notice)
    if opened.task.poses is None:
        raise ConfigError(f"the task {opened.task.name!r} has no body that could be drawn; Brax's tasks have.")

    from evoconn_cli.rendering.encoders import check_encoder
    from evoconn_cli.rendering.episodes import write_episodes
    from evoconn_cli.rendering.mujoco import require_backend
    from evoconn_cli.rendering.recording import record_episodes

    target = out or in_a_run(default_target(opened, policy=policy, seed=seed, episode=episode))
    check_output(target, "--out")
    if options.format != "html":
        check_encoder(options.format)
        require_backend()
    subject = make_subject(opened, policy=policy, seed=seed)
    replaces = target.exists()
    with RenderProgress(console) as progress:
        for note in options.notes:
            progress.note(note)
        played = record_episodes(subject, progress, seed=seed, first=episode, num_episodes=episodes, max_steps=steps)
        write_episodes(subject, played, options, target, progress=progress)
    say(console, f"{'Replaced' if replaces else 'Written'}: {target}")
    if wandb:
        from evoconn_cli.training.tracking import upload

        upload(opened.directory, opened.config, target, lambda message: say(console, message))
