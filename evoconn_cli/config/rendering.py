"""What the command line asks for, checked before anything slow begins."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from evoconn_cli.config.registry import BRAX_V1_TASKS
from evoconn_cli.errors import ConfigError, unknown_name

FORMATS = ("mp4", "gif", "html", "png")
CAMERAS = ("track", "side", "front")

_SIZES = (64, 4096)
_SMALLEST_WITH_OVERLAY = (320, 240)
_FASTEST_GIF = 2  # [1/100 s] delay of a frame; most players read a shorter one as 1/10 s
_DEFAULT_FPS = {"gif": 25.0}  # [frames/s] 30 where nothing is said here; a GIF holds 25 and not 30


class RenderOptions(NamedTuple):
    """How episodes are drawn."""

    format: str  # one of FORMATS
    fps: Fraction  # frames a second, as the file holds them
    speed: float  # seconds of simulation that one second of video shows
    width: int  # [pixels]
    height: int  # [pixels]
    camera: str  # one of CAMERAS
    has_overlay: bool
    still_at_end: bool  # a still shows the last moment of the last episode, and not its middle
    notes: tuple[str, ...]  # what was decided otherwise than asked


def make_options(
    out: Path,
    *,
    fps: float | None = None,
    speed: float | None = None,
    size: str | None = None,
    camera: str = "track",
    has_overlay: bool = True,
    still_at_end: bool = False,
) -> RenderOptions:
    """Returns the options; None means what suits the format.

    Args:
        out: the file to write; its ending says the format.
        fps: frames a second.
        speed: seconds of simulation that one second of video shows.
        size: such as `640x480`.
        camera: one of CAMERAS.
        has_overlay: draw the plots beside the body.
        still_at_end: a still shows the last moment of the last episode, and not its middle.

    Raises:
        ConfigError: what cannot be done, or has no meaning for the format.
    """
    suffix = out.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise ConfigError(f"--out {out}: the name has to end in one of {', '.join('.' + name for name in FORMATS)}.")
    if suffix in ("html", "png"):
        without = {"--fps": fps} | ({"--size": size} if suffix == "html" else {"--speed": speed})
        kind = "a page draws itself in the browser" if suffix == "html" else "a still does not move"
        for name, value in without.items():
            if value is not None:
                raise ConfigError(f"{name} has no meaning for {out.name}: {kind}. Leave it out.")
    if camera not in CAMERAS:
        raise unknown_name("camera", camera, CAMERAS)
    width, height = _parse_size(size or "640x480", suffix)
    if has_overlay and (width < _SMALLEST_WITH_OVERLAY[0] or height < _SMALLEST_WITH_OVERLAY[1]):
        smallest = "x".join(map(str, _SMALLEST_WITH_OVERLAY))
        raise ConfigError(
            f"--size {size}: the plots need {smallest} pixels at least. Use --no-overlay, or a larger size."
        )
    rate, notes = _rate(fps, suffix)
    if speed is not None and not 0.01 <= speed <= 100:
        raise ConfigError(f"--speed {speed:g}: expected 0.01 to 100; 0.5 is slow motion.")
    return RenderOptions(
        format=suffix,
        fps=rate,
        speed=1.0 if speed is None else speed,
        width=width,
        height=height,
        camera=camera,
        has_overlay=has_overlay,
        still_at_end=still_at_end,
        notes=notes,
    )


def check_task(name: str) -> None:
    """Checks that a task has bodies to draw.

    Raises:
        ConfigError: it has none.
    """
    if name not in BRAX_V1_TASKS:
        raise ConfigError(f"the task {name!r} has no body that could be drawn; Brax's tasks have.")


def _rate(fps: float | None, fmt: str) -> tuple[Fraction, tuple[str, ...]]:
    """Returns frames a second that the format can hold, and a note where they are not what was asked for."""
    fps = _DEFAULT_FPS.get(fmt, 30.0) if fps is None else fps
    if not 1 <= fps <= 240:
        raise ConfigError(f"--fps {fps:g}: expected 1 to 240 frames a second.")
    wanted = Fraction(str(fps))
    if fmt != "gif":
        return wanted, ()
    delays = range(_FASTEST_GIF, 101)
    rate = min((Fraction(100, delay) for delay in delays), key=lambda held: abs(held - wanted))
    if abs(rate / wanted - 1) < 1e-3:
        return rate, ()
    return rate, (
        f"a GIF holds delays of whole hundredths of a second: {float(rate):.4g} frames a second instead of "
        f"{float(wanted):g}, each at its own time.",
    )


def _parse_size(text: str, fmt: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip().lower())
    if match is None:
        raise ConfigError(f"--size {text}: expected WIDTHxHEIGHT, such as 640x480.")
    width, height = int(match[1]), int(match[2])
    low, high = _SIZES
    if not (low <= width <= high and low <= height <= high):
        raise ConfigError(f"--size {text}: expected {low} to {high} pixels each.")
    if fmt == "mp4" and (width % 2 or height % 2):
        # H.264 stores colours by squares of 2 pixels.
        raise ConfigError(f"--size {text}: an mp4 needs even numbers. Try {width + width % 2}x{height + height % 2}.")
    return width, height
