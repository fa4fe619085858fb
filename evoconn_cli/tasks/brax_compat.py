"""Makes Brax v1 (0.1.2) run on current JAX. Import Brax through `import_brax_envs` only.

Brax 0.1.2 was written for jax 0.3 to 0.4.20. Three names that it uses are gone since; each is put back only where
it is missing, so this is harmless on a JAX that has them, and applying it again changes nothing.

| name | gone since | why Brax wants it |
|---|---|---|
| `jax.tree_map` | jax 0.4.26 deprecated, 0.6 removed | shorthand used by some environments |
| `jax.interpreters.batching.BatchTracer` | jax 0.4.36 (new tracing core) | `isinstance` checks of `brax.jumpy` |
| `jax.core.thread_local_state` | jax 0.4.36 | `brax.jumpy._in_jit` looks for a trace on its stack |

Brax also imports gym, which prints a notice about its own maintenance: silenced.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shutil
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import jax
import jax.core
import jax.numpy as jnp
from jax.interpreters import batching


class _TraceStack:
    """Stands for the trace stack that `brax.jumpy._in_jit` searches, as text, for 'DynamicJaxprTrace'."""

    def __str__(self) -> str:
        # Under `jit` and friends even an operation on constants is staged out as a tracer.
        traced = isinstance(jnp.add(0, 0), jax.core.Tracer)
        return "[DynamicJaxprTrace]" if traced else "[]"


def apply_patches() -> list[str]:
    """Puts back the names that Brax 0.1.2 needs and this JAX lacks; returns those it put back."""
    applied = []
    if not hasattr(jax, "tree_map"):
        setattr(jax, "tree_map", jax.tree_util.tree_map)  # noqa: B010 - a name that the module does not declare
        applied.append("jax.tree_map")
    if not hasattr(batching, "BatchTracer"):
        # Every tracer is a `jax.Array` to isinstance today, so the check needs no class of its own.
        setattr(batching, "BatchTracer", jax.core.Tracer)  # noqa: B010
        applied.append("jax.interpreters.batching.BatchTracer")
    if not hasattr(jax.core, "thread_local_state"):
        state = SimpleNamespace(trace_state=SimpleNamespace(trace_stack=_TraceStack()))
        setattr(jax.core, "thread_local_state", state)  # noqa: B010
        applied.append("jax.core.thread_local_state")
    return applied


@contextlib.contextmanager
def _distutils() -> Iterator[None]:
    """Gives trimesh `distutils.spawn`, which Python 3.12 has no longer, where setuptools does not bring it."""
    if importlib.util.find_spec("distutils") is not None:
        yield
        return
    spawn = ModuleType("distutils.spawn")
    setattr(spawn, "find_executable", shutil.which)  # noqa: B010
    sys.modules |= {"distutils": ModuleType("distutils"), spawn.__name__: spawn}
    try:
        yield
    finally:
        del sys.modules["distutils"], sys.modules[spawn.__name__]


def import_brax_envs() -> ModuleType:
    """Returns the module `brax.envs` of Brax v1, patched for this JAX."""
    apply_patches()
    with _distutils(), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        from brax import envs
    return envs
