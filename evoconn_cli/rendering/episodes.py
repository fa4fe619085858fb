"""From a policy to a file: episodes are played, drawn and encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from evoconn_cli.config.rendering import RenderOptions
from evoconn_cli.engine.episodes import episode_keys
from evoconn_cli.rendering.camera import CameraPath, floor_height
from evoconn_cli.rendering.clock import Clock, pose_at
from evoconn_cli.rendering.encoders import write_gif, write_mp4, write_png
from evoconn_cli.rendering.mujoco import MujocoRenderer
from evoconn_cli.rendering.overlay import Overlay
from evoconn_cli.rendering.page import write_page
from evoconn_cli.rendering.recording import Motion, PolicyParams, RecordablePolicy, make_recorder
from evoconn_cli.rendering.shapes import TaskBodies, task_bodies
from evoconn_cli.tasks import Task

_PALETTE_SAMPLES = 8


class Progress(Protocol):
    """What rendering tells; it never prints by itself."""

    def start(self, what: str, total: int, unit: str) -> None:
        """Begins a part of the work with so many units, such as `drawing`, 240, `frames`."""
        ...

    def advance(self, done: int) -> None:
        """Shows that `done` units of it are done."""
        ...

    def note(self, message: str) -> None:
        """Shows a sentence; it stays."""
        ...


class Subject(NamedTuple):
    """What is rendered."""

    task: Task  # of Brax v1, with its episode limit
    policy: RecordablePolicy
    params_of: Callable[[int], PolicyParams]  # of an episode, by its number
    about: str  # a line below the name of the task
    warmup_steps: int = 0  # that settle the network before an episode


def record_episodes(
    subject: Subject,
    progress: Progress,
    *,
    seed: int,
    first: int = 0,
    num_episodes: int = 1,
    max_steps: int | None = None,
) -> list[Motion]:
    """Returns episodes of a seed, the same as in an evaluation with it.

    Args:
        subject: what plays.
        progress: is told what happens.
        seed: of the initial states, 0 to 2^32 - 1.
        first: number of the first episode, from 0.
        num_episodes: how many.
        max_steps: an episode is cut after so many steps.
    """
    progress.start("playing", num_episodes, "episode" if num_episodes == 1 else "episodes")
    record = make_recorder(subject.task, subject.policy, max_steps=max_steps, warmup_steps=subject.warmup_steps)
    episodes = []
    for number in range(first, first + num_episodes):
        episodes.append(record(subject.params_of(number), *episode_keys(seed, number)))
        progress.advance(len(episodes))
        if episodes[-1].broke:
            progress.note(f"episode {number} ends where the physics or the reward is not finite any more.")
    return episodes


def write_episodes(
    subject: Subject, episodes: list[Motion], options: RenderOptions, out: Path, progress: Progress
) -> None:
    """Draws episodes into the file `out`, which appears whole or not at all.

    Args:
        subject: what is seen.
        episodes: one after the other.
        options: how.
        out: the file.
        progress: is told what happens.

    Raises:
        EvoconnError: the renderer or the encoder fails.
    """
    bodies = task_bodies(subject.task.name)
    if options.format == "html":
        write_page(
            out,
            bodies,
            episodes,
            neurons=subject.policy.neurons,
            options=options,
            dt=subject.task.dt,
            about=subject.about,
        )
        return
    clock = Clock(episodes, dt=subject.task.dt, fps=options.fps, speed=options.speed)
    draw, close = _open_drawing(subject, bodies, episodes, clock, options, progress)
    size = (options.width, options.height)
    try:
        if options.format == "png":
            start, end = clock.start_of(len(episodes) - 1), clock.end_of(len(episodes) - 1)
            write_png(out, draw(end if options.still_at_end else (start + end) / 2))
            return
        progress.start("drawing", clock.num_frames, "frame" if clock.num_frames == 1 else "frames")
        frames = _told((draw(clock.time_of(frame)) for frame in range(clock.num_frames)), progress)
        if options.format == "mp4":
            write_mp4(out, frames, fps=options.fps, size=size)
            return
        chosen = np.linspace(0, clock.num_frames - 1, min(_PALETTE_SAMPLES, clock.num_frames)).astype(int)
        samples = [draw(clock.time_of(int(frame))) for frame in chosen]
        write_gif(out, frames, samples, fps=options.fps, size=size)
    finally:
        close()


def _open_drawing(
    subject: Subject,
    bodies: TaskBodies,
    episodes: list[Motion],
    clock: Clock,
    options: RenderOptions,
    progress: Progress,
) -> tuple[Callable[[float], np.ndarray], Callable[[], None]]:
    """Returns `draw(time) -> [height, width, 3]` uint8, and what ends it."""
    width, height = options.width, options.height
    overlay = None
    if options.has_overlay:
        title = (subject.task.name, subject.about)
        overlay = Overlay(title, episodes, subject.policy.neurons, clock=clock, width=width, height=height)
        width, height = overlay.layout.scene.width, overlay.layout.scene.height
    path = CameraPath(bodies, episodes, dt=subject.task.dt, camera=options.camera, aspect=width / height)
    renderer = MujocoRenderer(
        bodies, width=width, height=height, radius=path.radius, floor_height=floor_height(bodies, episodes)
    )
    progress.note(f"Drawn by {renderer.name}.")

    def draw(time: float) -> np.ndarray:
        moment = clock.moment(time)
        scene = renderer.draw(*pose_at(episodes[moment.episode], moment), path.view(moment))
        return scene if overlay is None else overlay.compose(time, scene)

    return draw, renderer.close


def _told(frames: Iterator[np.ndarray], progress: Progress) -> Iterator[np.ndarray]:
    for number, frame in enumerate(frames, start=1):
        yield frame
        progress.advance(number)
