"""What a run records of the plug-ins that it uses, and how that compares with those of this process.

A record is only compared and shown: what it names is never loaded because it does.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from evoconn_cli.config.registry import Kind, find, names
from evoconn_cli.config.schema import CHOSEN_BY_NAME, RunConfig
from evoconn_cli.errors import ConfigError, printable

KEY = "plugins"
"""Key of the records in run.json, and in the document of a bundle."""

_MOST_CHARACTERS = 100
"""A longer text of a record is cut in messages."""


class PluginRecord(NamedTuple):
    """One task, network or strategy of a plug-in."""

    kind: Kind
    name: str
    plugin: str  # file or module, without folders
    package: str | None  # distribution and version, of an installed plug-in
    sha256: str | None  # of the file that registers it

    @property
    def what(self) -> str:
        """Kind and name, for messages."""
        return f"the {self.kind} {self.name!r}"


def records_of(config: RunConfig) -> list[PluginRecord]:
    """Returns what the plug-ins of a configuration are in this process; none for evoconn's own."""
    chosen = [find(kind, getattr(config, section).name) for section, kind in CHOSEN_BY_NAME.items()]
    return [
        PluginRecord(entry.kind, entry.name, plugin.label, plugin.package or None, plugin.sha256 or None)
        for entry in chosen
        if (plugin := entry.plugin) is not None
    ]


def to_facts(config: RunConfig) -> dict[str, Any]:
    """Returns the entry of run.json with the plug-ins of a configuration; none if it has no plug-in."""
    records = [record._asdict() for record in records_of(config)]
    return {KEY: records} if records else {}


def digest(config: RunConfig) -> str:
    """Returns a hash of the plug-ins of a configuration, to compare processes."""
    return hashlib.sha256(repr(records_of(config)).encode()).hexdigest()


def read_records(facts: Mapping[str, Any]) -> list[PluginRecord]:
    """Returns the records in a file that may be a stranger's, in its latest start; what is no record is left out."""
    resumed = facts.get("resumed")
    starts = [facts, *(resumed if isinstance(resumed, list) else [])]
    latest = next((start[KEY] for start in reversed(starts) if isinstance(start, dict) and KEY in start), [])
    found = []
    for given in latest if isinstance(latest, list) else []:
        if isinstance(given, dict) and given.get("kind") in CHOSEN_BY_NAME.values():
            texts = [str(given.get(field) or "")[:_MOST_CHARACTERS] for field in PluginRecord._fields]
            texts[2] = texts[2].replace("\\", "/").rpartition("/")[2]  # no message names a stranger's folder
            _, name, plugin, package, sha256 = map(printable, texts)
            found.append(PluginRecord(given["kind"], name, plugin, package or None, sha256 or None))
    return found


def check_loaded(facts: Mapping[str, Any], what: str) -> None:
    """Checks that this process has the plug-ins that a run or a bundle used.

    Args:
        facts: Content of a file that has such records.
        what: What it describes, such as `the run runs/a`.

    Raises:
        ConfigError: One is missing; the message says how to load it.
    """
    for record in read_records(facts):
        if record.name in names(record.kind):
            continue
        if record.package is not None:
            raise ConfigError(
                f"{what} uses {record.what} of the package {record.package}, which is not installed here. Install it, "
                f"if you trust it, or load its module {record.plugin} with --plugin."
            )
        copy = f"its module {record.plugin}" if not record.plugin.endswith(".py") else f"your copy of {record.plugin}"
        raise ConfigError(
            f"{what} uses {record.what} of the plug-in {record.plugin}, which is not loaded. Add --plugin with "
            f"{copy}: --plugin {shlex.quote(record.plugin)}. In Python, import it first."
        )


def changed_plugins(before: Mapping[str, Any], config: RunConfig) -> list[str]:
    """Returns what is different about the plug-ins of a run now, as sentences without full stop.

    Args:
        before: Facts of the run, from run.json.
        config: Its configuration.
    """
    then = {(record.kind, record.name): record for record in read_records(before)}
    changes = []
    for now in records_of(config):
        was = then.pop((now.kind, now.name), None)
        if was is None:
            changes += [f"{now.what} is that of the plug-in {now.plugin} now"] * bool(before)
        elif was.package != now.package:
            changes.append(f"{now.what} was of {was.package or was.plugin} and is of {now.package or now.plugin} now")
        elif was.sha256 != now.sha256:
            changes.append(f"{now.what} comes from {now.plugin}, which has changed since")
    return [
        *changes,
        *(f"{was.what} was of the plug-in {was.plugin} and is evoconn's own now" for was in then.values()),
    ]
