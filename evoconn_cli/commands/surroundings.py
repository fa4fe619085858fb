"""What a command finds around it, and can do without: streams, a terminal's size, a current directory."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

from evoconn_cli.errors import EvoconnError
from evoconn_cli.runs.progress.terminal import LastingStream

_LEAST_SIZE = {"COLUMNS": 10, "LINES": 2}
"""A terminal that says less has no size, as in some containers, and nothing would be seen."""

_MOST_SIZE = 10_000
"""No terminal is larger, and tables are padded to its width in memory."""


@contextlib.contextmanager
def usable_surroundings() -> Iterator[None]:
    """Lets commands run with closed streams, a closed pipe, and variables of a notebook or of a terminal without size.

    Who reads the output may stop at any time: that is no failure of the work.

    Raises:
        EvoconnError: there is no current directory, or no room for the output.
    """
    _open_missing_streams()
    for name, least in _LEAST_SIZE.items():
        given = os.environ.get(name)
        if given is not None and not (given.isdecimal() and len(given) < 10 and least <= int(given) <= _MOST_SIZE):
            del os.environ[name]
    # Matplotlib fails on the backend of a notebook, and warns of what it finds in files of the user.
    os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    out = LastingStream(sys.stdout, may_lose_output=False)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(LastingStream(sys.stderr)):
        yield
        out.flush()


def check_current_directory() -> None:
    """Checks that there is a current directory.

    Raises:
        EvoconnError: it was removed.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise EvoconnError(f"the current directory cannot be used: {error.strerror}. Change to another one.") from None


def _open_missing_streams() -> None:
    """Opens the standard streams that this process was started without, so that no other file takes their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))
