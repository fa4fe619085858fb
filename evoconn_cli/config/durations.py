"""Durations as people and SLURM write them."""

from __future__ import annotations

import re

from evoconn_cli.errors import ConfigError

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_IN_UNITS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_AS_SLURM = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)")


def parse_duration(text: str) -> float:
    """Returns the seconds of `3h50m`, `90m`, `1d12h`, or of SLURM's `3:50:00` and `1-12:00:00`.

    Raises:
        ConfigError: it is not written so, or nothing.
    """
    written = text.replace(" ", "").lower()
    found = _AS_SLURM.fullmatch(written) or _IN_UNITS.fullmatch(written)
    seconds = sum(int(n or 0) * unit for n, unit in zip(found.groups(), _UNITS.values(), strict=True)) if found else 0
    if seconds == 0:
        raise ConfigError(f"cannot read the time {text!r}: write it as 3h50m, 90m, 45s, 1d12h or 3:50:00.")
    return float(seconds)
