"""Finds the W&B mode that the user has chosen, and the user's API key.

wandb would look for the key itself, but prompts if it finds none.
"""

from __future__ import annotations

import configparser
import netrc
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from evoconn_cli.errors import ConfigError

MODE_OF_VARIABLE = {
    "online": "online",
    "run": "online",
    "shared": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}
"""Modes of a run by value of WANDB_MODE."""

_YES = ("1", "true", "yes", "on", "y", "t")


def choose_mode(setting: str, environment: Mapping[str, str]) -> str:
    """Returns `auto`, `online`, `offline` or `disabled`.

    If the configuration leaves it open, WANDB_DISABLED comes first, then WANDB_MODE, then W&B's settings files, which
    `wandb offline` and `wandb disabled` write.

    Args:
        setting: Value of `tracking.wandb`; anything but `auto` decides alone.
        environment: Environment variables.

    Raises:
        ConfigError: WANDB_MODE has no known value.
    """
    if setting != "auto":
        return setting
    if environment.get("WANDB_DISABLED", "").strip().lower() in _YES:
        return "disabled"
    if asked := environment.get("WANDB_MODE", "").strip():
        if not is_mode(asked):
            raise ConfigError(f"WANDB_MODE={asked}: expected {', '.join(MODE_OF_VARIABLE)}")
        return MODE_OF_VARIABLE[asked.lower()]
    written = _mode_in_files(environment)
    return MODE_OF_VARIABLE[written] if written in ("offline", "dryrun", "disabled") else "auto"


def is_mode(text: str) -> bool:
    """Returns whether `text` is a value of WANDB_MODE."""
    return text.strip().lower() in MODE_OF_VARIABLE


def _mode_in_files(environment: Mapping[str, str]) -> str:
    """Returns the mode in W&B's settings files, empty without one; the working directory's file takes precedence.

    They are read here because W&B ignores a whole file if one of its entries is unknown.
    """
    everywhere = Path(environment.get("WANDB_CONFIG_DIR") or "~/.config/wandb")
    here = Path(environment.get("WANDB_DIR") or ".")
    mode = ""
    for folder in (everywhere, here / "wandb", here / ".wandb"):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read(folder.expanduser() / "settings", encoding="utf-8")
            mode = parser.get("default", "mode", fallback=mode).strip().lower()
        except (OSError, RuntimeError, configparser.Error, UnicodeDecodeError):
            continue
    return mode


def find_api_key(base_url: str, environment: Mapping[str, str]) -> str | None:
    """Returns the user's key for the W&B server at `base_url`; None without one.

    It is looked for in WANDB_API_KEY and in the netrc file, whose `default` entry is not meant for W&B.
    """
    if key := environment.get("WANDB_API_KEY"):
        return key
    host = urlsplit(base_url).netloc
    # Both addresses serve the same accounts, and older logins are stored under the second.
    hosts = ("api.forge.coreweave.com", "api.wandb.ai") if host == "api.forge.coreweave.com" else (host,)
    named = environment.get("NETRC")
    for path in [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]:
        try:
            entries = netrc.netrc(str(path.expanduser())).hosts
        except (OSError, RuntimeError, netrc.NetrcParseError, UnicodeDecodeError):
            continue
        for entry in filter(None, map(entries.get, hosts)):
            return entry[2] or None
    return None
