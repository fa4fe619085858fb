"""Whether a run can be tracked online: the mode that is asked for, and the user's key.

wandb would look for the key itself, but where it finds none it prompts.
"""

from __future__ import annotations

import netrc
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

MODE_OF_VARIABLE = {
    "online": "online",
    "run": "online",
    "shared": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}


def choose_mode(setting: str, variable: str | None) -> str:
    """Returns `auto`, `online`, `offline` or `disabled`.

    Args:
        setting: `tracking.wandb` of the configuration; anything but `auto` decides alone.
        variable: the environment variable WANDB_MODE, None where it is not set.
    """
    return MODE_OF_VARIABLE.get((variable or "").lower(), "auto") if setting == "auto" else setting


def find_api_key(base_url: str, environment: Mapping[str, str]) -> str | None:
    """Returns the user's key for the W&B server at `base_url`, None where there is none.

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
