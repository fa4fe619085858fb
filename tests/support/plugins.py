"""Plug-ins for tests: their texts, and what they leave behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evoconn_cli.config import installed_plugins, plugin_errors, plugins, registry

POINT = '''"""A point on a line that is pushed."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

import evoconn_cli
from evoconn_cli import Task, TaskConfig, TaskState, option


@dataclass(frozen=True)
class PointConfig(TaskConfig):
    mass: float = option(1.0, "mass of the point", unit="kg", above=0)
    episode_length: int = option(8, "longest episode", unit="steps", low=1)


@evoconn_cli.register_task("point", config=PointConfig, summary="A point on a line that is pushed.")
def make(config):
    def state(x, v, steps):
        return TaskState((x, v), jnp.stack([x, v]), 1.0 - x * x, jnp.abs(x) > 3.0, steps)

    def reset(key):
        return state(jax.random.uniform(key, (), minval=-1.0, maxval=1.0), jnp.zeros(()), jnp.zeros((), jnp.int32))

    def step(before, action):
        x, v = before.physics
        v = v + 0.1 * jnp.clip(action[0], -1.0, 1.0) / config.mass
        return state(x + 0.1 * v, v, before.steps + 1)

    return Task("point", observation_size=2, action_size=1, dt=0.1, reset=reset, step=step)
'''
"""Needs nothing but evoconn; `point` has the key `task.mass`."""

RATE = '''"""A leaky network."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

import evoconn_cli
from evoconn_cli import Layer, Network, NetworkConfig, option


@dataclass(frozen=True)
class RateConfig(NetworkConfig):
    num_neurons: int = option(4, "neurons", low=1)
    leak: float = option(0.5, "share of the state that is kept", low=0, below=1)


@evoconn_cli.register_network("rate", candidates="weights", config=RateConfig)
def make(config, *, observation_size, action_size, on_cpu):
    sizes = {"input": (observation_size, config.num_neurons), "output": (config.num_neurons, action_size)}

    def initial_weights(key):
        return {name: 0.1 * jax.random.normal(key, size) for name, size in sizes.items()}

    def initial_carry(keys):
        return jnp.zeros((keys.shape[0], config.num_neurons))

    def step(params, carry, obs, active=None):
        carry = config.leak * carry + jnp.einsum("bo,bon->bn", obs, params["input"])
        return carry, jnp.einsum("bn,bna->ba", jnp.tanh(carry), params["output"])

    return Network(
        "rate",
        shapes={name: jax.ShapeDtypeStruct(size, jnp.float32) for name, size in sizes.items()},
        layers={"input": Layer("observation", "neurons"), "output": Layer("hidden", "action")},
        initial_weights=initial_weights,
        prepare=lambda candidates: candidates,
        initial_carry=initial_carry,
        step=step,
    )
'''
"""A network of real weights with the key `network.leak`."""

CLIMB = '''"""Moves along the mean of the better members."""

import jax
import jax.numpy as jnp

import evoconn_cli
from evoconn_cli import Strategy


@evoconn_cli.register_strategy("climb", candidates="weights")
def make(config, network):
    def ask(key, state, members):
        def one(member):
            own = jax.random.fold_in(key, member)
            return jax.tree.map(lambda c: c + 0.1 * jax.random.normal(own, c.shape), state)

        return jax.vmap(one)(members)

    def weighted_sums(state, candidates, weights):
        pull = weights.astype(jnp.float32)
        return jax.tree.map(lambda c, x: jnp.einsum("b,b...->...", pull, x - c), state, candidates)

    def tell(state, sums, weights):
        return jax.tree.map(lambda c, s: c + s / config.num_members**2, state, sums), {"moved": jnp.float32(1)}

    return Strategy(
        "climb",
        init=network.initial_weights,
        ask=ask,
        center=lambda state: jax.tree.map(lambda c: c[None], state),
        weighted_sums=weighted_sums,
        tell=tell,
        metrics=lambda state: {},
    )
'''
"""A strategy on real weights."""


@contextmanager
def forgotten() -> Iterator[None]:
    """Forgets afterwards what is registered and loaded meanwhile, and looks for installed packages anew."""
    tables = (registry._ENTRIES, plugins._loaded, plugin_errors._places)
    kept = [dict(table) for table in tables]
    installed_plugins.installed_plugins.cache_clear()
    try:
        yield
    finally:
        modules = {entry.plugin.label for entry in registry._ENTRIES.values() if entry.plugin is not None}
        for name in [name for name in sys.modules if name in modules or name.startswith("evoconn_plugin_")]:
            del sys.modules[name]
        for table, before in zip(tables, kept, strict=True):
            table.clear()
            table.update(before)
        installed_plugins.installed_plugins.cache_clear()


def install(folder: Path, module: str, *points: str, text: str = POINT, package: str = "pushed 1.2") -> None:
    """Installs a package with one module into a folder of the module path, as pip would.

    Args:
        folder: The folder.
        module: Name of the module.
        points: Names of its entry points, such as `task.point`.
        text: Text of the module.
        package: Name and version of the package.
    """
    name, version = package.split()
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (folder / f"{module}.py").write_text(text)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{point} = {module}\n" for point in points]
    (info / "entry_points.txt").write_text(f"[evoconn.plugins]\n{''.join(lines)}")
