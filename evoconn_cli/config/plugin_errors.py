"""Messages about errors in the code of plug-ins, with the plug-in's own lines of the traceback."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from evoconn_cli.errors import EvoconnError, PluginError, first_line, printable

_MOST_LINES = 6
"""Calls of a traceback that are shown, the last ones."""

_places: dict[str, str] = {}
"""Files and folders of the plug-ins of this process, with the names of the plug-ins."""

_DECIDES_BY_VALUE = {
    "ConcretizationTypeError",
    "NonConcreteBooleanIndexError",
    "TracerArrayConversionError",
    "TracerBoolConversionError",
    "TracerIntegerConversionError",
}
"""Errors of JAX when Python needs the value of an array while a function is traced."""


def remember_place(path: str, label: str) -> None:
    """Makes errors in a file, or in the files of a folder, those of the plug-in `label`."""
    if path:
        _places[path] = label


@contextmanager
def code_of_plugin(what: str, *, wrapped: bool = False) -> Iterator[None]:
    """Turns an error of a plug-in's code into a message.

    Args:
        what: What is called, such as `step of the task 'point_mass' (point_mass.py)`.
        wrapped: Whether `what` is named also in front of errors that are messages already.

    Raises:
        PluginError: The code raised something else than a message.
    """
    try:
        yield
    except EvoconnError as error:
        if not wrapped or isinstance(error, PluginError):
            raise
        raise _with_own_lines(PluginError(f"{what}: {error}"), error) from None
    except (Exception, SystemExit) as error:
        raise _with_own_lines(PluginError(f"{what} fails: {describe(error)}"), error) from None


def plugin_failure(error: BaseException) -> PluginError | None:
    """Returns the message about an error that a plug-in's code has raised; None for any other error."""
    frames = _own_frames(error)
    if isinstance(error, EvoconnError) or not isinstance(error, Exception) or not frames:
        return None
    label = next(label for place, label in _places.items() if _is_in(frames[-1].filename, place))
    return _with_own_lines(PluginError(f"the plug-in {label} fails: {describe(error)}"), error)


def describe(error: BaseException) -> str:
    """Returns the type of an error and what it says, as a sentence, with what to do about frequent ones."""
    if {kind.__name__ for kind in type(error).__mro__} & _DECIDES_BY_VALUE:
        return (
            "it cannot be traced by JAX, because Python needs the value of an array there. Use jnp.where or "
            "jax.lax.cond in place of `if`, and jnp in place of NumPy."
        )
    said = first_line(error)
    named = said if said == type(error).__name__ else f"{type(error).__name__}: {said}"
    return named if named.endswith((".", "!", "?")) else f"{named}."


def _with_own_lines(message: PluginError, error: BaseException) -> PluginError:
    lines = traceback.format_list(_own_frames(error)[-_MOST_LINES:])
    if isinstance(error, SyntaxError):
        lines += traceback.format_exception_only(error)[:-1]
    for line in "".join(lines).splitlines():
        message.add_note(printable(line))
    return message


def _own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if any(_is_in(frame.filename, place) for place in _places)]


def _is_in(file: str, place: str) -> bool:
    return file == place or file.startswith(place + os.sep)
