"""Plug-ins: tasks, networks and strategies that others register, how they are loaded, and what a run records of them.

Only the person at the keyboard chooses what is loaded: by installing a package, by `--plugin` and `EVOCONN_PLUGINS`, or
by registering in Python. Nothing here loads what a file names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.abc
import importlib.util
import inspect
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from evoconn_cli.config.installed_plugins import installed_plugins, package_of
from evoconn_cli.config.plugin_errors import code_of_plugin, remember_place
from evoconn_cli.config.plugin_keys import check_keys_of_plugin
from evoconn_cli.config.registry import Entry, Kind, entries, forget, register
from evoconn_cli.config.schema import AlgoConfig, NetworkConfig, TaskConfig
from evoconn_cli.errors import ConfigError, PluginError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_PREFIX = "evoconn_plugin_"
"""Prefix of the names under which files are modules, so that no file replaces a module of another name."""

Make = TypeVar("Make", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Plugin:
    """What registers something.

    Attributes:
        label: Name for messages and records: a file or a module, without its folder.
        given: Absolute path or module, as --plugin takes it; empty for what was registered in Python.
        sha256: Hash of its file; empty if there is none.
        package: Distribution and its version, of an installed plug-in.
    """

    label: str
    given: str = ""
    sha256: str = ""
    package: str = ""


_loading: list[Plugin] = []
"""Plug-ins that are being loaded, the innermost last."""

_loaded: dict[str, Plugin] = {}
"""Plug-ins that were given by the user, by real path or module, in the order in which they were loaded."""


# Registering


def register_task(name: str, *, config: type[TaskConfig] = TaskConfig, summary: str = "") -> Callable[[Make], Make]:
    """Returns a decorator that registers `make(config) -> Task` as a task.

    Args:
        name: Name in the configuration and on the command line.
        config: Frozen dataclass that extends `TaskConfig`; its fields, made by `option`, become keys `task.*`.
        summary: Description in a sentence; by default the first line of the function's docstring.

    Raises:
        ConfigError: The name is taken or cannot be used, or the dataclass is wrong.
    """
    return _registering("task", name, config, summary)


def register_network(
    name: str,
    *,
    candidates: str,
    config: type[NetworkConfig] = NetworkConfig,
    published: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    summary: str = "",
) -> Callable[[Make], Make]:
    """Returns a decorator for `make(config, observation_size=, action_size=, on_cpu=) -> Network`.

    Args:
        name: Name in the configuration and on the command line.
        candidates: Kind of parameters: `connections` (boolean) or `weights` (real), or a word of your own; the
            strategies that propose the same can search it.
        config: Frozen dataclass that extends `NetworkConfig` or `SpikingConfig`; its fields become keys `network.*`.
        published: Values of keys that are null by default, by strategy, such as `{"es": {"sigma": 0.02}}`.
        summary: Description in a sentence; by default the first line of the function's docstring.

    Raises:
        ConfigError: As for `register_task`.
    """
    return _registering("network", name, config, summary, candidates=candidates, published=published)


def register_strategy(
    name: str, *, candidates: str, config: type[AlgoConfig] = AlgoConfig, summary: str = ""
) -> Callable[[Make], Make]:
    """Returns a decorator that registers `make(config, network) -> Strategy` as a strategy.

    Args:
        name: Name in the configuration and on the command line.
        candidates: What it proposes, as for `register_network`.
        config: Frozen dataclass that extends `AlgoConfig`; its fields become keys `algo.*`.
        summary: Description in a sentence; by default the first line of the function's docstring.

    Raises:
        ConfigError: As for `register_task`.
    """
    return _registering("strategy", name, config, summary, candidates=candidates)


BASES: dict[Kind, type] = {"task": TaskConfig, "network": NetworkConfig, "strategy": AlgoConfig}
"""Dataclasses that those of plug-ins extend."""


def _registering(kind: Kind, name: str, config: type, summary: str, **more: Any) -> Callable[[Make], Make]:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"the {kind} {name!r}: a name has small letters, digits and '_', and begins with a letter, such as "
            "point_mass."
        )
    if not isinstance(more.get("candidates", "weights"), str) or not more.get("candidates", "weights"):
        raise ConfigError(f"the {kind} {name!r}: candidates must be a word, such as connections or weights.")
    check_keys_of_plugin(config, BASES[kind], f"the {kind} {name!r}")
    if name in {f.name for f in dataclasses.fields(config)}:
        raise ConfigError(f"the {kind} {name!r} has the name of one of its keys. Choose another name.")

    def decorate(make: Make) -> Make:
        if not callable(make):
            raise ConfigError(f"the {kind} {name!r}: {make!r} is not a function that makes it.")
        plugin = _loading[-1] if _loading else _plugin_of(make)
        installed = installed_plugins().get(f"{kind}.{name}", [])
        if installed and all(point.module != plugin.label for point in installed):
            raise ConfigError(
                f"there is a {kind} {name!r} already, of the installed package {package_of(installed[0])}. Choose "
                "another name."
            )
        register(Entry(kind, name, summary or _first_line(make), config, make, plugin=plugin, **more))
        return make

    return decorate


def _first_line(make: Any) -> str:
    """Returns the first line of a function's docstring."""
    text = inspect.getdoc(make) if inspect.isfunction(make) else None
    return (text or "").partition("\n")[0]


def _plugin_of(make: Callable[..., Any]) -> Plugin:
    """Returns the plug-in of a function that is registered without --plugin, as in a notebook."""
    module = getattr(make, "__module__", None) or "Python"
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not os.path.isfile(file):
        return Plugin("Python")
    remember_place(file, label := Path(file).name if module == "__main__" else module)
    return Plugin(label, sha256=_hash(file))


# Loading


def import_installed(kind: Kind, name: str) -> None:
    """Imports the installed plug-in that offers a name, which registers it.

    Raises:
        PluginError: It cannot be imported, does not register the name, or two packages offer it.
    """
    points = installed_plugins()[f"{kind}.{name}"]
    if len({point.module for point in points}) > 1:
        owners = " and ".join(sorted(package_of(point) for point in points))
        raise PluginError(f"the {kind} {name!r} is offered by two installed packages, {owners}. Uninstall one.")
    point, what = points[0], f"the plug-in {points[0].module} of the package {package_of(points[0])}"
    _import(Plugin(point.module, point.module, package=package_of(point)), what)
    if not any(entry.name == name for entry in entries(kind)):
        raise PluginError(f"{what} registers no {kind} {name!r}. Tell its authors, or uninstall it.")


def load_plugins(given: Sequence[str]) -> None:
    """Loads plug-ins that the user has given, each once.

    Args:
        given: Paths of Python files, and modules.

    Raises:
        ConfigError: There is no such file, or a text cannot be the name of a module.
        PluginError: One cannot be loaded, or registers nothing.
    """
    for text in given:
        if text.endswith(".py") or os.sep in text:
            path = Path(os.path.abspath(os.path.expanduser(text)))
            if os.path.realpath(path) not in _loaded:
                _loaded[os.path.realpath(path)] = _load_file(path, text)
        elif not _MODULE.fullmatch(text):
            raise ConfigError(f"the plug-in {text} is neither a Python file, such as ./plugin.py, nor a module's name.")
        elif text not in _loaded:
            plugin = _import(Plugin(text, text), what := f"the plug-in {text}")
            _check_registers(plugin, what)
            _loaded[text] = plugin


def to_load() -> list[str]:
    """Returns what --plugin takes to load the same plug-ins in another process: absolute paths, and modules."""
    return [plugin.given for plugin in _loaded.values()]


def plugin_options() -> str:
    """Returns the options that load the same plug-ins again, to be shown after a command; empty if there are none."""
    inside = os.getcwd() + os.sep
    return "".join(f" --plugin {shlex.quote(given.removeprefix(inside))}" for given in to_load())


def _load_file(path: Path, text: str) -> Plugin:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the plug-in {text} cannot be read: {error.strerror}.") from None
    plugin, what = Plugin(path.name, str(path), hashlib.sha256(source).hexdigest()), f"the plug-in {path.name}"
    name = _PREFIX + re.sub(r"\W", "_", path.stem)
    while name in sys.modules:
        name += "_"
    spec = importlib.util.spec_from_loader(name, loader := _Source(str(path), source))
    assert spec is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    remember_place(str(path), path.name)
    with _loads(plugin, what):
        loader.exec_module(module)
    _check_registers(plugin, what)
    return plugin


class _Source(importlib.abc.SourceLoader):
    """Runs the very bytes whose hash is recorded, and keeps no compiled form of them."""

    def __init__(self, path: str, source: bytes) -> None:
        self._path, self._source = path, source

    def get_filename(self, fullname: str) -> str:
        """Returns the path of the file."""
        return self._path

    def get_data(self, path: str) -> bytes:  # type: ignore[override]
        """Returns its source."""
        return self._source


def _import(plugin: Plugin, what: str) -> Plugin:
    """Imports the module of a plug-in; returns the plug-in with the hash of its file."""
    with _loads(plugin, what):
        spec = importlib.util.find_spec(plugin.label)
        if spec is not None and spec.origin and os.path.isfile(spec.origin):
            top = sys.modules.get(plugin.label.partition(".")[0])
            folders = [*getattr(top, "__path__", ()), *(spec.submodule_search_locations or ())]
            for place in folders or [spec.origin]:
                remember_place(place, plugin.label)
            _loading[-1] = plugin = dataclasses.replace(plugin, sha256=_hash(spec.origin))
        importlib.import_module(plugin.label)
    return plugin


@contextmanager
def _loads(plugin: Plugin, what: str) -> Iterator[None]:
    """Makes what is registered meanwhile that of a plug-in, and nothing of it if that fails."""
    idle = not _jax_runs()
    _loading.append(plugin)
    try:
        with code_of_plugin(what, wrapped=True):
            yield
        if idle and _jax_runs():
            raise PluginError(
                f"{what} computes with JAX while it is loaded, before evoconn has chosen the devices. Make its arrays "
                "in its functions, or with NumPy."
            )
    except BaseException:
        forget(_loading[-1])
        raise
    finally:
        _loading.pop()


def _jax_runs() -> bool:
    """Returns whether JAX has started its devices in this process."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bridge.backends_are_initialized()


def _check_registers(plugin: Plugin, what: str) -> None:
    """Checks that something is registered by a plug-in, or was before if its module had been imported."""
    found = (entry.plugin for kind in BASES for entry in entries(kind) if entry.plugin is not None)
    if any(one == plugin or f"{one.label}.".startswith(f"{plugin.given}.") for one in found):
        return
    raise PluginError(
        f"{what} registers nothing. Put @evoconn_cli.register_task, @evoconn_cli.register_network or "
        "@evoconn_cli.register_strategy above a function that makes one."
    )


def _hash(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
