"""Draws recorded episodes into a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evoconn_cli.config.rendering import RenderOptions
from evoconn_cli.rendering.camera import CameraPath, floor_height
from evoconn_cli.rendering.clock import Clock, pose_at
from evoconn_cli.rendering.encoders import write_gif, write_mp4, write_png
from evoconn_cli.rendering.mujoco import MujocoRenderer
from evoconn_cli.rendering.overlay import Overlay
from evoconn_cli.rendering.page import write_page
from evoconn_cli.rendering.recording import Motion, RenderDisplay, Subject
from evoconn_cli.rendering.shapes import TaskBodies, bodies_of

_PALETTE_SAMPLES = 8
"""Frames that the colours of a .gif are chosen from."""


class _Drawing:
    """Draws moments of recorded episodes, with the overlay if it is asked for."""

    def __init__(
        self, subject: Subject, bodies: TaskBodies, episodes: list[Motion], *, options: RenderOptions, clock: Clock
    ) -> None:
        width, height = options.width, options.height
        self._episodes, self._clock, self._overlay = episodes, clock, None
        if options.has_overlay:
            title = (subject.task.name, subject.about)
            self._overlay = Overlay(title, episodes, subject.network.neurons, clock=clock, width=width, height=height)
            width, height = self._overlay.layout.scene.width, self._overlay.layout.scene.height
        self._path = CameraPath(bodies, episodes, dt=subject.task.dt, camera=options.camera, aspect=width / height)
        self.renderer = MujocoRenderer(
            bodies, width=width, height=height, radius=self._path.radius, floor_height=floor_height(bodies, episodes)
        )

    def at(self, time: float) -> np.ndarray:
        """Returns `[height, width, 3]` uint8 what is seen at a time of the video [s]."""
        moment = self._clock.moment(time)
        scene = self.renderer.draw(*pose_at(self._episodes[moment.episode], moment), self._path.view(moment))
        return scene if self._overlay is None else self._overlay.compose(time, scene)


def write_episodes(
    subject: Subject, episodes: list[Motion], options: RenderOptions, out: Path, *, progress: RenderDisplay
) -> None:
    """Draws episodes, one after the other, into the file `out`, which is written atomically.

    Args:
        subject: Task and policy that are shown.
        episodes: Recordings.
        options: Options of the drawing.
        out: File to write.
        progress: Display of the progress.

    Raises:
        EvoconnError: The renderer or the encoder fails.
    """
    dt, neurons = subject.task.dt, subject.network.neurons
    bodies = bodies_of(subject.task, episodes[0].positions.shape[1])
    if options.format == "html":
        write_page(out, bodies, episodes, neurons=neurons, options=options, dt=dt, about=subject.about)
        return
    clock = Clock(episodes, dt=dt, fps=options.fps, speed=options.speed)
    drawing = _Drawing(subject, bodies, episodes, options=options, clock=clock)
    progress.note(f"Drawn by {drawing.renderer.name}.")
    size = (options.width, options.height)
    try:
        if options.format == "png":
            start, end = clock.start_of(len(episodes) - 1), clock.end_of(len(episodes) - 1)
            write_png(out, drawing.at(end if options.still_at_end else (start + end) / 2))
            return
        progress.start("drawing", clock.num_frames, "frame" if clock.num_frames == 1 else "frames")
        frames = _shown((drawing.at(clock.time_of(frame)) for frame in range(clock.num_frames)), progress)
        if options.format == "mp4":
            write_mp4(out, frames, fps=options.fps, size=size)
            return
        chosen = np.linspace(0, clock.num_frames - 1, min(_PALETTE_SAMPLES, clock.num_frames)).astype(int)
        samples = [drawing.at(clock.time_of(int(frame))) for frame in chosen]
        write_gif(out, frames, samples, fps=options.fps, size=size)
    finally:
        drawing.renderer.close()


def _shown(frames: Iterator[np.ndarray], progress: RenderDisplay) -> Iterator[np.ndarray]:
    for number, frame in enumerate(frames, start=1):
        yield frame
        progress.advance(number)
