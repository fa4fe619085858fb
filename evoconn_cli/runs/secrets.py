"""Keeping credentials out of what is written and shown."""

from __future__ import annotations

import os
import re

_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_MIN_LENGTH = 8
"""Shorter values are words that occur by chance."""


def without_secrets(text: str, *values: str) -> str:
    """Returns `text` with secrets left out.

    Args:
        text: anything.
        values: secrets, besides the environment variables whose names say that they are and logins in addresses.
    """
    named = {value: f"[{name}]" for name, value in os.environ.items() if _NAMES.search(name)}
    found = {**dict.fromkeys(values, "[key]"), **named}
    for value in sorted(found, key=len, reverse=True):  # one may be a part of another
        if len(value) >= _MIN_LENGTH:
            text = text.replace(value, found[value])
    return re.sub(r"//[^/@\s]+@", "//", text)
