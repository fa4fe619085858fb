"""`evoconn render`: a policy in motion, as a video, a page or a still."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evoconn_cli.commands.options import (
    Plugins,
    Policy,
    SavedNetwork,
    file_option,
    flag,
    option,
    seed_option,
    steps_of,
    takes,
)
from evoconn_cli.commands.terminal import make_console, show_notice
from evoconn_cli.config.registry import find
from evoconn_cli.config.rendering import Camera, make_options
from evoconn_cli.errors import ConfigError
from evoconn_cli.output import check_output, in_a_run
from evoconn_cli.progress.formatting import say

if TYPE_CHECKING:
    from rich.console import Console

    from evoconn_cli.evaluation.opened import OpenedRun
    from evoconn_cli.rendering.recording import Subject


@dataclasses.dataclass(frozen=True)
class RenderCommandOptions:
    """Arguments and options of `evoconn render`."""

    path: SavedNetwork
    out: Annotated[
        Path | None, file_option("File to write: .mp4, .gif, .html (a page) or .png; an mp4 in the run by default.")
    ] = None
    step: Annotated[
        str | None,
        option(
            "STEP", "Checkpoint: a generation, latest or best.", complete=steps_of("latest", "best"), default="latest"
        ),
    ] = None
    episode: Annotated[int, option("N", "First episode, numbered as in evaluate --csv.", min=0, max=10**9)] = 0
    episodes: Annotated[int, option("N", "Episodes to show, one after the other.", min=1, max=10**6)] = 1
    steps: Annotated[
        int | None, option("N", "Steps per episode; a .png shows the last one.", min=1, default="to its end")
    ] = None
    seed: Annotated[int, seed_option("Random seed of initial states and sampled connections.")] = 0
    policy: Policy = "deterministic"
    camera: Annotated[Camera, option("VIEW", "track, side or front.")] = "track"
    fps: Annotated[float | None, option("RATE", "Frames per second, 1 to 240.", default="30, 25 for .gif")] = None
    speed: Annotated[
        float | None, option("FACTOR", "0.01 to 100; 0.5 is slow motion at half the speed.", default="1")
    ] = None
    size: Annotated[str | None, option("WxH", "Pixels, 64 to 4096 each.", default="640x480")] = None
    overlay: Annotated[bool, typer.Option(help="Draw spikes, rates and rewards beside the body.")] = True
    plugin: Plugins = dataclasses.field(default_factory=list)
    wandb: Annotated[bool, flag("--wandb", "Upload the file to the run at Weights & Biases.")] = False


@takes(RenderCommandOptions)
def render(options: RenderCommandOptions) -> None:
    """Show a trained policy, with its spikes, as a video, a page or a still.

    [bold]Examples[/bold]

      evoconn render zoo:humanoid --out walk.html

      evoconn render latest

      evoconn render runs/hopper-ec --out hopper.html

      evoconn render runs/hopper-ec --step best --out hopper.gif --size 480x360 --fps 20 --steps 500
    """
    from evoconn_cli.evaluation.opened import open_run
    from evoconn_cli.runs.listing import named_run

    drawing = make_options(
        options.out or Path("video.mp4"),
        fps=options.fps,
        speed=options.speed,
        size=options.size,
        camera=options.camera,
        has_overlay=options.overlay,
        still_at_end=options.steps is not None,
    )
    if options.out is not None:
        check_output(options.out, "--out")
    opened = open_run(named_run(options.path), options.step, note=show_notice)
    if opened.task.poses is None:
        task = find("task", opened.task.name).described()
        raise ConfigError(
            f"{task} has no body that could be drawn: it gives no poses. evaluate and export-connectivity need none."
        )

    from evoconn_cli.rendering.encoders import check_encoder
    from evoconn_cli.rendering.episodes import write_episodes
    from evoconn_cli.rendering.mujoco import require_backend
    from evoconn_cli.rendering.recording import record_episodes

    target = options.out or in_a_run(_default_target(opened, options))
    check_output(target, "--out")
    if drawing.format != "html":
        check_encoder(drawing.format)
        require_backend()
    subject = make_subject(opened, policy=options.policy, seed=options.seed)
    replaces = target.exists()
    console = make_console()
    progress = _Bars(console)
    with progress.bars:
        for note in drawing.notes:
            progress.note(note)
        played = record_episodes(
            subject,
            progress,
            seed=options.seed,
            first=options.episode,
            num_episodes=options.episodes,
            max_steps=options.steps,
        )
        write_episodes(subject, played, drawing, target, progress=progress)
    say(console, f"{'Replaced' if replaces else 'Written'}: {target}")
    if options.wandb:
        from evoconn_cli.training.tracking import upload

        upload(opened.directory, opened.config, target, lambda message: say(console, message))


def _default_target(opened: OpenedRun, options: RenderCommandOptions) -> Path:
    """Returns the default file for this policy, seed and first episode."""
    parts = [f"generation-{opened.generation}", f"seed-{options.seed}"]
    if options.policy == "sampled":
        parts.append("sampled")
    if options.episode:
        parts.append(f"episode-{options.episode}")
    return opened.output_path("videos", f"{'-'.join(parts)}.mp4")


def make_subject(opened: OpenedRun, *, policy: str, seed: int) -> Subject:
    """Returns the policy to render.

    Args:
        opened: Run at a checkpoint.
        policy: `deterministic`, or `sampled`: other connections in each episode, the same as in an evaluation.
        seed: Random seed of sampled connections.
    """
    from evoconn_cli.rendering.recording import Subject

    config = opened.config
    about = [config.network.name, f"{config.network.num_neurons} neurons", f"generation {opened.generation}"]
    if opened.bundle is not None:
        about.append("edited bundle" if opened.edit else "bundle")
    if policy == "sampled":
        about.append("sampled")
    return Subject(
        task=opened.task,
        network=opened.network,
        params_of=lambda episode: opened.policy_params(policy, seed, episode),
        about=", ".join(about),
        warmup_steps=config.rollout.warmup_steps,
    )


class _Bars:
    """Shows a bar for the current part of the work while `bars` is entered; notes stay in the scrollback.

    Args:
        console: Console to show it on.
    """

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description:<8}"),
            BarColumn(complete_style="cyan", finished_style="cyan"),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(compact=True),
        )
        self._console = console
        self.bars = Progress(*columns, console=console, transient=True, disable=not console.is_interactive)

    def start(self, what: str, total: int, unit: str) -> None:
        """Begins a part of the work, such as `drawing`, 240, `frames`."""
        if self.bars.disable:
            self._console.print(f"{what} {total:,} {unit}", highlight=False)
        for task in self.bars.task_ids:
            self.bars.remove_task(task)
        # Until the first unit is done, which may wait for a compilation, the bar pulses.
        self._task = self.bars.add_task(what, total=total, unit=unit, start=False)

    def advance(self, done: int) -> None:
        """Shows that `done` units of the part are done."""
        self.bars.start_task(self._task)
        self.bars.update(self._task, completed=done)

    def note(self, message: str) -> None:
        """Prints a sentence."""
        say(self._console, message)
