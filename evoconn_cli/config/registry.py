"""The registry of tasks, networks and strategies, and the shipped files: presets, grids, and networks of the zoo."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

from evoconn_cli.config.installed_plugins import installed_plugins
from evoconn_cli.config.plugin_errors import code_of_plugin
from evoconn_cli.errors import ConfigError, PluginError, unknown_name

if TYPE_CHECKING:
    from evoconn_cli.config.plugins import Plugin

Made = TypeVar("Made")
Kind: TypeAlias = Literal["task", "network", "strategy"]

PLUGINS_VARIABLE = "EVOCONN_PLUGINS"
"""Environment variable with plug-ins to load, as for --plugin, separated like the folders of PATH."""


@dataclass(frozen=True)
class Entry:
    """What has a name in the configuration. Nothing that it names is imported before it is used.

    Attributes:
        kind: Task, network or strategy.
        name: Name in the configuration and on the command line.
        summary: Description in a sentence.
        config: Dataclass of its keys, or `module:Class`.
        make: Function that makes it, or `module:function`: `make(config)` of a task, `make(config, observation_size=,
            action_size=, on_cpu=)` of a network, `make(config, network)` of a strategy; `config` is an instance of the
            dataclass.
        candidates: What a network is made of and a strategy proposes, such as `connections` (boolean) or `weights`
            (real); a strategy can search the networks that have the same.
        published: Published values of keys that are null by default, by strategy, for a network.
        gpu_kernel: `module:function` that says why the network's GPU kernel cannot run a configuration, or None if it
            can; empty if there is no such kernel.
        hidden: Whether help and lists leave it out.
        plugin: Plug-in that it comes from; None for evoconn's own.
    """

    kind: Kind
    name: str
    summary: str
    config: str | type
    make: str | Callable[..., Any]
    candidates: str = ""
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict, hash=False)
    gpu_kernel: str = ""
    hidden: bool = False
    plugin: Plugin | None = None

    def default_config(self) -> Any:
        """Returns an instance of its dataclass, with this name and otherwise default values."""
        return _load(self.config)(name=self.name)

    def made(self, expected: type[Made], *args: Any, **options: Any) -> Made:
        """Returns what its function makes.

        Args:
            expected: Class of that, such as `Task`.
            args: Arguments of the function.
            options: Arguments by keyword.

        Raises:
            PluginError: The function of a plug-in fails, or makes something else.
        """
        make = _load(self.make)
        if self.plugin is None:
            return make(*args, **options)
        with code_of_plugin(f"{self.described()}: {getattr(make, '__name__', 'its function')}"):
            made = make(*args, **options)
        if not isinstance(made, expected):
            raise PluginError(
                f"{self.described()}: {getattr(make, '__name__', 'its function')} returns a {type(made).__name__}, and "
                f"must return an evoconn_cli.{expected.__name__}."
            )
        renamed: Any = made
        return renamed if renamed.name == self.name else replace(renamed, name=self.name)

    def described(self) -> str:
        """Returns kind, name and plug-in, for messages."""
        return f"the {self.kind} {self.name!r}" + (f" of {self.plugin.label}" if self.plugin else "")

    def why_no_gpu_kernel(self, config: Any) -> str | None:
        """Returns why a network cannot run in a GPU kernel of its own, None if it can."""
        if self.gpu_kernel:
            return _load(self.gpu_kernel)(config)
        others = ", ".join(entry.name for entry in entries(self.kind) if entry.gpu_kernel)
        return f"{self.name} has no such kernel, only {others} has"


_ENTRIES: dict[tuple[Kind, str], Entry] = {}
_LISTENERS: list[Callable[[Entry], object]] = []


def register(entry: Entry) -> None:
    """Adds an entry; of networks that a strategy can search the first one is its default.

    A function of a plug-in that is defined again, as in a notebook, replaces what it registered before.

    Raises:
        ConfigError: The name is taken.
    """
    other = _ENTRIES.get((entry.kind, entry.name))
    if other is not None and (other.plugin is None or _place(other.make) != _place(entry.make)):
        owner = f", of {other.plugin.label}" if other.plugin else ""
        raise ConfigError(f"there is a {entry.kind} {entry.name!r} already{owner}. Choose another name.")
    _ENTRIES[entry.kind, entry.name] = entry
    for listener in _LISTENERS:
        listener(entry)


def on_register(listener: Callable[[Entry], object]) -> None:
    """Calls `listener` with every entry that is registered from now on."""
    _LISTENERS.append(listener)


def forget(plugin: Plugin) -> None:
    """Removes what a plug-in has registered."""
    for key in [key for key, entry in _ENTRIES.items() if entry.plugin == plugin]:
        del _ENTRIES[key]


def _place(make: str | Callable[..., Any]) -> Any:
    return make if isinstance(make, str) else (getattr(make, "__module__", ""), getattr(make, "__qualname__", make))


def entries(kind: Kind) -> list[Entry]:
    """Returns the entries of a kind in the order of their registration; of installed plug-ins, those in use."""
    return [entry for entry in _ENTRIES.values() if entry.kind == kind]


def names(kind: Kind, *, hidden: bool = True, installed: bool = True) -> list[str]:
    """Returns the names of a kind.

    Args:
        kind: Task, network or strategy.
        hidden: Whether hidden ones are among them.
        installed: Whether those of installed plug-ins are among them that are not imported yet.
    """
    known = [entry.name for entry in entries(kind) if hidden or not entry.hidden]
    return [*known, *_installed(kind)] if installed else known


def _installed(kind: Kind) -> list[str]:
    """Returns the names of a kind that only installed plug-ins offer; no package replaces what is registered."""
    found = (point.partition(".") for point in installed_plugins())
    return [name for of_kind, _, name in found if of_kind == kind and name and (kind, name) not in _ENTRIES]


def find(kind: Kind, name: str, what: str = "") -> Entry:
    """Returns the entry of a name; that of an installed plug-in is imported.

    Args:
        kind: Task, network or strategy.
        name: The name.
        what: What the message about an unknown name calls it; the kind by default.

    Raises:
        ConfigError: An unknown name; the message has the nearest ones.
        PluginError: The installed plug-in cannot be imported.
    """
    if isinstance(name, str) and (kind, name) not in _ENTRIES and name in _installed(kind):
        from evoconn_cli.config.plugins import import_installed

        import_installed(kind, name)
    if not isinstance(name, str) or (kind, name) not in _ENTRIES:
        error = unknown_name(what or kind, name, names(kind), listed=names(kind, hidden=False))
        raise ConfigError(f"{error} One of your own is loaded with --plugin.")
    return _ENTRIES[kind, name]


def pairs() -> dict[str, list[str]]:
    """Returns `{strategy: networks that it can search}`, the default network of each strategy first.

    Of installed plug-ins it has those that have been used.
    """
    networks = entries("network")
    return {
        strategy.name: [network.name for network in networks if network.candidates == strategy.candidates]
        for strategy in entries("strategy")
    }


def _load(place: Any) -> Any:
    if not isinstance(place, str):
        return place
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


_BRAX_V1 = (
    "acrobot ant fetch grasp halfcheetah hopper humanoid humanoidstandup inverted_double_pendulum inverted_pendulum "
    "pusher reacher swimmer ur5e walker2d"
).split()
_PROBES = ("probe_bias", "probe_memory", "probe_nan", "probe_sign", "probe_steps")
_PROBE = "A small task with a known answer, which tests the software."

_SCHEMA, _NETWORKS, _STRATEGIES = (f"evoconn_cli.{part}" for part in ("config.schema", "networks", "engine.strategies"))

_WITH_WEIGHTS = (
    ("lstm", "An LSTM cell and a dense read-out.", "LstmConfig", "flax_networks", 0.02, 0.01),
    ("gru", "A GRU cell and a dense read-out.", "NetworkConfig", "flax_networks", 0.02, 0.01),
    ("mlp", "One tanh layer and a dense read-out; feed-forward.", "NetworkConfig", "flax_networks", 0.02, 0.01),
    (
        "dense_snn",
        "The same neurons with real weights and without types (Dense-RSNN).",
        "DenseSnnConfig",
        "dense_snn",
        0.3,
        0.15,
    ),
)
"""Networks of real weights: name, summary, keys, module, and published values of `sigma` and `learning_rate` for es."""

_OUR_OWN = (
    *(
        Entry("task", name, "A task of Brax v1.", f"{_SCHEMA}:TaskConfig", "evoconn_cli.tasks.brax_v1:make")
        for name in _BRAX_V1
    ),
    *(
        Entry("task", name, _PROBE, f"{_SCHEMA}:TaskConfig", "evoconn_cli.tasks.probes:make", hidden=True)
        for name in _PROBES
    ),
    Entry(
        "network",
        "conn_snn",
        "Boolean recurrent spiking network with excitatory and inhibitory neurons (Conn-RSNN).",
        f"{_SCHEMA}:ConnSnnConfig",
        f"{_NETWORKS}.conn_snn:make",
        candidates="connections",
        gpu_kernel=f"{_NETWORKS}.conn_snn:why_no_gpu_kernel",
    ),
    *(
        Entry(
            "network",
            name,
            summary,
            f"{_SCHEMA}:{config}",
            f"{_NETWORKS}.{module}:make",
            candidates="weights",
            published={"es": {"sigma": sigma, "learning_rate": learning_rate}},
        )
        for name, summary, config, module, sigma, learning_rate in _WITH_WEIGHTS
    ),
    Entry(
        "strategy",
        "ec",
        "Evolving connectivity: Bernoulli probabilities moved by natural evolution strategies.",
        f"{_SCHEMA}:EcConfig",
        f"{_STRATEGIES}.connectivity:make",
        candidates="connections",
    ),
    Entry(
        "strategy",
        "es",
        "Evolution strategies on real weights: antithetic Gaussian perturbations and AdamW.",
        f"{_SCHEMA}:EsConfig",
        f"{_STRATEGIES}.gaussian:make",
        candidates="weights",
    ),
)

for _entry in _OUR_OWN:
    register(_entry)

WandbMode: TypeAlias = Literal["auto", "online", "offline", "disabled"]
WANDB_MODES: tuple[str, ...] = get_args(WandbMode)


def config_dir() -> Path:
    """Returns the folder of the presets, in the installed package or in a checkout."""
    return _shipped("presets", "configs")


def _shipped(installed: str, in_checkout: str) -> Path:
    """Returns a folder of shipped files, in the installed package or in a checkout."""
    package = Path(__file__).parents[1]
    return package / installed if (package / installed).is_dir() else package.parent / in_checkout


def grid_dir() -> Path:
    """Returns the folder of the grids."""
    return config_dir() / "grids"


def preset_names() -> list[str]:
    """Returns the names of the presets, sorted."""
    return _names(config_dir())


def grid_names() -> list[str]:
    """Returns the names of the shipped grids, sorted."""
    return _names(grid_dir())


def zoo_dir() -> Path:
    """Returns the folder of the trained networks, in the installed package or in a checkout."""
    return _shipped("zoo", "zoo")


def zoo_names() -> list[str]:
    """Returns the names of the trained networks, sorted."""
    return sorted(path.parent.name for path in zoo_dir().glob("*/network.json"))


def find_named(source: str, kind: str, folder: Path) -> Path:
    """Returns the path of a preset or grid.

    Args:
        source: Name of a file in `folder`, or a path.
        kind: What the file is, for messages.
        folder: Folder of the shipped files.

    Raises:
        ConfigError: An unknown name.
    """
    if is_path(source):
        return Path(source)
    names = _names(folder)
    if source not in names:
        error = unknown_name(kind, source, names)
        file = source if Path(source).suffix else f"{source}.yaml"
        raise ConfigError(f"{error} A file of your own is named by its path, such as ./{file}.")
    return folder / f"{source}.yaml"


def is_path(source: str) -> bool:
    """Returns whether `source` is a path, not the name of a shipped file."""
    return Path(source).suffix in (".yaml", ".yml") or "/" in source


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))
