"""Which generations are saved, by the names of the checkpoints alone."""

from __future__ import annotations

import os
from pathlib import Path

from evoconn_cli.errors import UnreadableCheckpointError


def saved_generations(checkpoints: Path) -> list[int]:
    """Returns the generations that the directory `checkpoints` holds, in order; none if it does not exist.

    Raises:
        UnreadableCheckpointError: the directory cannot be read.
    """
    try:
        return sorted(int(name) for name in os.listdir(checkpoints) if name.isdecimal())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UnreadableCheckpointError(f"cannot read {checkpoints}: {error.strerror}.") from None
