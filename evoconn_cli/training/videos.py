"""Renders short videos of a run while it trains, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from evoconn_cli.config.plugins import to_load
from evoconn_cli.config.registry import PLUGINS_VARIABLE
from evoconn_cli.errors import printable
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.signals import PARENT_VARIABLE

SIZE = (480, 360)  # [pixels]
_STEPS, _FPS = 250, 20
_PATIENCE = 180.0  # [s] that the end of a run waits for its last video
_TERMINATING = 2.0  # [s] until a process that was asked to end is killed
_PAUSE = 0.2  # [s] between looks at whether it is done

_PROGRAM = """
import os
from evoconn_cli.app import main
from evoconn_cli.runs.signals import end_with_parent
end_with_parent()
os.nice(10)
main()
"""
"""`evoconn` with a low priority, that ends with the training."""


class Video(NamedTuple):
    """A finished video."""

    path: Path
    generation: int


class VideoMaker:
    """Renders checkpoints of a run, one at a time, with `evoconn render`; the first failure turns it off, with a note.

    The checkpoint is copied first, because the training may delete it.

    Args:
        directory: Directory of the run; videos go into its `videos`.
        every: Generations from one video to the next.
        start: Generation that the run starts from.
        suffix: `.mp4` or `.gif`.
        note: Called with messages for the user.
        command: Program that renders; this one by default.
    """

    def __init__(
        self,
        directory: RunDirectory,
        every: int,
        start: int,
        *,
        suffix: str,
        note: Callable[[str], None],
        command: Sequence[str] = (sys.executable, "-P", "-c", _PROGRAM),
    ) -> None:
        self._directory, self._every, self._note, self._command = directory, every, note, command
        self._folder = directory.path / "videos"
        self._work = self._folder / ".rendering"
        self._suffix, self._last = suffix, start
        self._process: subprocess.Popen | None = None
        self._video: Video | None = None

    def saved(self, generation: int) -> None:
        """Starts the next video if one is due after `generation`, which has just been saved."""
        if self._every and generation // self._every > self._last // self._every and self._process is None:
            self._last = generation
            try:
                self._start(generation)
            except OSError as error:
                self._fail(generation, error.strerror or str(error))

    def finished(self) -> Video | None:
        """Returns the video that was finished since the last call; None if none was."""
        if self._process is None or self._video is None or self._process.poll() is None:
            return None
        process, video = self._process, self._video
        self._process = self._video = None
        if process.returncode == 0 and video.path.exists():
            self._clean()
            return video
        self._fail(video.generation, self._reason(process.returncode))
        return None

    def wait(self, must_end: Callable[[], bool]) -> None:
        """Waits for the video that is being rendered, at the end of a run.

        Args:
            must_end: Whether the process has to end now.
        """
        if self._process is None or self._video is None:
            return
        self._note(f"waiting for the video of generation {self._video.generation}; Ctrl-C ends that.")
        until = time.monotonic() + _PATIENCE
        while self._process.poll() is None and not must_end() and time.monotonic() < until:
            time.sleep(_PAUSE)
        if self._process.poll() is None:
            self._note(f"the video of generation {self._video.generation} was not finished. evoconn render makes one.")

    def close(self) -> None:
        """Ends the process, if there is one, and deletes what it leaves behind."""
        if self._process is not None:
            self._process.terminate()  # it removes what it has not finished
            try:
                self._process.wait(_TERMINATING)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._clean()

    def _start(self, generation: int) -> None:
        self._video = Video(self._folder / f"generation-{generation}{self._suffix}", generation)
        for place in (self._folder, self._work, self._video.path):  # the run may come from someone else
            if place.is_symlink():
                raise OSError(None, f"{place} is a symbolic link")
        self._clean()
        copy = RunDirectory(self._work / "run")
        saved = self._directory.checkpoints / str(generation)
        shutil.copytree(saved, copy.checkpoints / str(generation), symlinks=True)
        shutil.copyfile(self._directory.config_file, copy.config_file)
        size = "x".join(map(str, SIZE))
        options = ["--out", str(self._video.path), "--steps", str(_STEPS), "--size", size, "--fps", str(_FPS)]
        options += [f"--plugin={plugin}" for plugin in to_load()]
        on_cpu = {"JAX_PLATFORMS": "cpu"}  # the training has the memory of the GPU
        with (self._work / "log.txt").open("wb") as log:
            self._process = subprocess.Popen(
                [*self._command, "render", str(copy.path), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **on_cpu, PARENT_VARIABLE: str(os.getpid()), PLUGINS_VARIABLE: ""},
                start_new_session=True,  # Ctrl-C is for the training
            )

    def _clean(self) -> None:
        if not self._folder.is_symlink():
            shutil.rmtree(self._work, ignore_errors=True)

    def _reason(self, code: int) -> str:
        """Returns the last line that the process printed."""
        try:
            lines = (self._work / "log.txt").read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            lines = []
        said = [printable(line.strip()) for line in lines if line.strip()]
        return said[-1].removeprefix("Error: ").rstrip(".") if said else f"exit code {code}"

    def _fail(self, generation: int, reason: str) -> None:
        self._every = 0
        self._note(f"the video of generation {generation} was not rendered ({reason}); there will be no more videos.")
        self._clean()
