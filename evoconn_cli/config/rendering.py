"""The options of `evoconn render`, checked before anything slow starts."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from evoconn_cli.errors import ConfigError

RENDER_FORMATS = ("mp4", "gif", "html", "png")
Camera: TypeAlias = Literal["track", "side", "front"]

_SIZES = (64, 4096)
_SMALLEST_WITH_OVERLAY = (320, 240)
_SHORTEST_DELAY = 2  # [1/100 s] of a GIF frame; most players read a shorter one as 1/10 s


class RenderOptions(NamedTuple):
    """How episodes are drawn."""

    format: str  # one of RENDER_FORMATS
    fps: Fraction  # frames per second, as the file holds them
    speed: float  # seconds of simulation per second of video
    width: int  # [pixels]
    height: int  # [pixels]
    camera: Camera
    has_overlay: bool
    still_at_end: bool  # a still shows the last moment of the last episode instead of its middle
    notes: tuple[str, ...]  # notices about options that could not be kept exactly


def make_options(
    out: Path,
    *,
    fps: float | None = None,
    speed: float | None = None,
    size: str | None = None,
    camera: Camera = "track",
    has_overlay: bool = True,
    still_at_end: bool = False,
) -> RenderOptions:
    """Returns the options; None selects the default of the format.

    Args:
        out: File to write; its suffix selects the format.
        fps: Frames per second.
        speed: Seconds of simulation per second of video.
        size: Size in pixels, such as `640x480`.
        camera: View.
        has_overlay: Whether the plots are drawn beside the body.
        still_at_end: Whether a still shows the last moment of the last episode instead of its middle.

    Raises:
        ConfigError: An option is impossible, or has no meaning for the format.
    """
    suffix = out.suffix.lower().removeprefix(".")
    if suffix not in RENDER_FORMATS:
        known = ", ".join(f".{name}" for name in RENDER_FORMATS)
        raise ConfigError(f"--out {out}: the name has to end in one of {known}.")
    if suffix in ("html", "png"):
        without = {"--fps": fps} | ({"--size": size} if suffix == "html" else {"--speed": speed})
        kind = "the browser draws the page" if suffix == "html" else "a still does not move"
        for name, value in without.items():
            if value is not None:
                raise ConfigError(f"{name} has no meaning for {out.name}: {kind}. Leave it out.")
    width, height = _parse_size(size or "640x480", suffix)
    if has_overlay and (width < _SMALLEST_WITH_OVERLAY[0] or height < _SMALLEST_WITH_OVERLAY[1]):
        smallest = "x".join(map(str, _SMALLEST_WITH_OVERLAY))
        raise ConfigError(
            f"--size {size}: the plots need at least {smallest} pixels. Use --no-overlay, or a larger size."
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


def _rate(fps: float | None, fmt: str) -> tuple[Fraction, tuple[str, ...]]:
    """Returns the nearest frames per second that the format can hold, and a notice if they differ from `fps`."""
    if fps is None:
        fps = 25.0 if fmt == "gif" else 30.0  # a GIF can hold 25 and not 30
    if not 1 <= fps <= 240:
        raise ConfigError(f"--fps {fps:g}: expected 1 to 240 frames per second.")
    wanted = Fraction(str(fps))
    if fmt != "gif":
        return wanted, ()
    delays = range(_SHORTEST_DELAY, 101)
    rate = min((Fraction(100, delay) for delay in delays), key=lambda held: abs(held - wanted))
    if abs(rate / wanted - 1) < 1e-3:
        return rate, ()
    return rate, (
        f"a GIF holds delays of whole hundredths of a second: {float(rate):.4g} frames per second instead of "
        f"{float(wanted):g}; the speed stays the same.",
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
