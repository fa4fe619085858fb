"""Encodes frames: mp4 and gif with ffmpeg, png with Pillow. Files are written atomically."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from evoconn_cli.drawing.colors import BACKGROUND, EXCITATORY, INHIBITORY, LINE, REWARD, TEXT, TRACK
from evoconn_cli.errors import EvoconnError
from evoconn_cli.output import whole_file

_REMEDY = "Install one, or set IMAGEIO_FFMPEG_EXE to one; without that variable the one of imageio-ffmpeg is taken."
_PALETTE_SIZE = 64
_PALETTE_PIXELS = 400_000
"""Number of pixels of the sample frames from which a palette is made."""


def write_png(path: Path, frame: np.ndarray) -> None:
    """Writes one frame `[height, width, 3]` uint8."""
    with whole_file(path) as partial:
        Image.fromarray(frame).save(partial, format="png", optimize=True)


def check_encoder(fmt: str) -> None:
    """Checks that a video can be encoded, by encoding a single frame.

    Args:
        fmt: Format of the file; only mp4 and gif need ffmpeg.

    Raises:
        EvoconnError: ffmpeg is missing or cannot encode the format.
    """
    if fmt not in ("mp4", "gif"):
        return
    frame, how = np.zeros((64, 64, 3), np.uint8), {"fps": Fraction(25), "size": (64, 64)}
    with _temporary_folder() as folder:
        path = folder / f"frame.{fmt}"
        if fmt == "mp4":
            write_mp4(path, iter([frame]), **how)
        else:
            write_gif(path, iter([frame]), [frame], **how)
        if not path.stat().st_size:
            raise EvoconnError(f"{_find_ffmpeg()} writes no video. {_REMEDY}")


def write_mp4(path: Path, frames: Iterator[np.ndarray], *, fps: Fraction, size: tuple[int, int]) -> None:
    """Writes frames `[height, width, 3]` uint8 as H.264, which every browser and player shows.

    Args:
        path: File to write.
        frames: Frames in order; one at a time is in memory.
        fps: Frames per second.
        size: Width and height, both even [pixels].

    Raises:
        EvoconnError: ffmpeg fails or the file cannot be written.
    """
    with whole_file(path) as partial:
        _run_ffmpeg(frames, fps=fps, size=size, output=[*_codec_options(), "-f", "mp4", f"file:{partial}"])


def _codec_options() -> list[str]:
    # Players assume this standard of colours; it is also written into the file for those that read it.
    bt709 = [part for name in ("colorspace", "color_primaries", "color_trc") for part in (f"-{name}", "bt709")]
    scale = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-color_range", "tv", *bt709]
    codec = ["-c:v", "libx264", "-preset", "medium", "-crf", "18", "-pix_fmt", "yuv420p"]
    return [*codec, *scale, "-movflags", "+faststart"]


def write_gif(
    path: Path, frames: Iterator[np.ndarray], samples: Sequence[np.ndarray], *, fps: Fraction, size: tuple[int, int]
) -> None:
    """Writes frames `[height, width, 3]` uint8 as an endlessly looping GIF with one palette for all frames.

    Args:
        path: File to write.
        frames: Frames in order; one at a time is in memory.
        samples: A few of the frames, from which the palette is made.
        fps: Frames per second, 100 divided by a whole number.
        size: Width and height [pixels].

    Raises:
        EvoconnError: ffmpeg fails or the file cannot be written.
    """
    palette_image = make_palette(samples)
    with _temporary_folder() as folder, whole_file(path) as partial:
        palette = folder / "palette.png"
        with _naming_temporary_files():
            palette_image.save(palette)
        use = "[0:v][1:v]paletteuse=dither=none:diff_mode=rectangle"
        output = ["-lavfi", use, "-loop", "0", "-f", "gif", f"file:{partial}"]
        _run_ffmpeg(frames, fps=fps, size=size, inputs=["-i", str(palette)], output=output)


def make_palette(samples: Sequence[np.ndarray]) -> Image.Image:
    """Returns a picture of 16 x 16 pixels with `_PALETTE_SIZE` colours: those of the plots, and the best for `samples`.

    With few colours neighbouring pixels are often equal, which makes small files.
    """
    shades = np.linspace(0.2, 1.0, 5)[:, None]
    plots = [np.array(TRACK) + shades * (np.array(color) - TRACK) for color in (EXCITATORY, INHIBITORY, REWARD, TEXT)]
    own = np.concatenate([*plots, [BACKGROUND, TRACK, LINE]]).round().astype(np.uint8)
    every = max(1, sum(frame.shape[0] * frame.shape[1] for frame in samples) // _PALETTE_PIXELS)
    pixels = np.concatenate([frame.reshape(-1, 3)[::every] for frame in samples])
    number = _PALETTE_SIZE - len(own)
    quantized = Image.fromarray(pixels[None]).quantize(number, method=Image.Quantize.MEDIANCUT)
    found = np.array(quantized.getpalette("RGB"), np.uint8).reshape(-1, 3)[:number]
    return Image.fromarray(np.resize(np.concatenate([own, found]), (256, 3)).reshape(16, 16, 3))


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        with _naming_temporary_files():
            path = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield path


@contextlib.contextmanager
def _naming_temporary_files() -> Iterator[None]:
    """Turns an OSError about a temporary file into an EvoconnError."""
    try:
        yield
    except OSError as error:
        raise EvoconnError(
            f"a temporary file cannot be written: {error.strerror or error}. Make room for it, or set TMPDIR to a "
            "directory that has some."
        ) from error


def _find_ffmpeg() -> str:
    import imageio_ffmpeg

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise EvoconnError(f"there is no ffmpeg on this machine. {_REMEDY}") from error


def _run_ffmpeg(
    frames: Iterator[np.ndarray], *, fps: Fraction, size: tuple[int, int], inputs: Sequence[str] = (), output: list[str]
) -> None:
    width, height = size
    command = [
        _find_ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "pipe:0",
        *inputs, *output,
    ]  # fmt: skip
    with _naming_temporary_files():
        log = tempfile.TemporaryFile()
    with log:
        try:
            # A session of its own, so that Ctrl-C only reaches it through this process.
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log, start_new_session=True)
        except OSError as error:
            raise EvoconnError(
                f"ffmpeg cannot be started: {command[0]}: {error.strerror or error}. {_REMEDY}"
            ) from error
        assert process.stdin is not None
        try:
            # If ffmpeg stops reading, its exit code says why.
            with contextlib.suppress(BrokenPipeError):
                for frame in frames:
                    process.stdin.write(np.ascontiguousarray(frame).tobytes())
                process.stdin.close()
            process.wait()
        finally:
            with contextlib.suppress(OSError):
                process.stdin.close()
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode != 0:
            log.seek(0)
            raise EvoconnError(f"ffmpeg failed: {_first_error(log.read()) or f'exit code {process.returncode}'}")


def _first_error(log: bytes) -> str:
    """Returns the first error that ffmpeg reports, without the name of its component; later ones follow from it."""
    lines = log.decode(errors="replace").strip().splitlines()
    return re.sub(r"^\[[^]]*\] ", "", lines[0]) if lines else ""
