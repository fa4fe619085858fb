"""Keeping credentials out of what is written and shown."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_MIN_LENGTH = 8
"""Shorter values are words that occur by chance."""


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Returns `text` with the values of secret environment variables, and logins in addresses, left out.

    Args:
        text: anything.
        environment: that of the process by default; variables whose names say so are secret.
    """
    for name, value in (os.environ if environment is None else environment).items():
        if _NAMES.search(name) and len(value) >= _MIN_LENGTH:
            text = text.replace(value, f"[{name}]")
    return re.sub(r"//[^/@\s]+@", "//", text)
