"""Makes Brax v1 (0.1.2) run on current JAX. Import Brax through `import_brax_envs` only.

Brax 0.1.2 was written for jax 0.3 to 0.4.20 and uses three names that later versions removed. Each is restored only if
it is missing, so applying the patches twice, or on a JAX that has the names, changes nothing.

| name | removed in | used by Brax for |
|---|---|---|
| `jax.tree_map` | jax 0.6 (deprecated in 0.4.26) | some environments |
| `jax.interpreters.batching.BatchTracer` | jax 0.4.36 (new tracing core) | `isinstance` checks in `brax.jumpy` |
| `jax.core.thread_local_state` | jax 0.4.36 | `brax.jumpy._in_jit`, which searches its trace stack |

Brax also imports gym, whose maintenance notice is silenced.
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
    """A substitute for the trace stack, in whose text `brax.jumpy._in_jit` searches for 'DynamicJaxprTrace'."""

    def __str__(self) -> str:
        # Under `jit` and friends even an operation on constants is staged out as a tracer.
        traced = isinstance(jnp.add(0, 0), jax.core.Tracer)
        return "[DynamicJaxprTrace]" if traced else "[]"


def apply_patches() -> list[str]:
    """Restores the names that Brax 0.1.2 needs and this JAX lacks, and returns them."""
    needed = [
        (jax, "tree_map", jax.tree_util.tree_map),
        # Every tracer is a `jax.Array` to isinstance today, so the check needs no class of its own.
        (batching, "BatchTracer", jax.core.Tracer),
        (jax.core, "thread_local_state", SimpleNamespace(trace_state=SimpleNamespace(trace_stack=_TraceStack()))),
    ]
    missing = [(module, name, value) for module, name, value in needed if not hasattr(module, name)]
    for module, name, value in missing:
        setattr(module, name, value)
    return [f"{module.__name__}.{name}" for module, name, _ in missing]


@contextlib.contextmanager
def _distutils() -> Iterator[None]:
    """Provides `distutils.spawn` for trimesh if neither Python (since 3.12) nor setuptools does."""
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
