from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.interpreters import batching

from evoconn_cli.tasks import brax_compat
from evoconn_cli.tasks.brax_compat import apply_patches, import_brax_envs

NAMES = ["jax.tree_map", "jax.interpreters.batching.BatchTracer", "jax.core.thread_local_state"]


PLACES = [(jax, "tree_map"), (batching, "BatchTracer"), (jax.core, "thread_local_state")]


@pytest.fixture
def bare_jax():
    """A JAX without any of the names, whatever an import of Brax has put back before."""
    before = {(owner, name): vars(owner).pop(name) for owner, name in PLACES if name in vars(owner)}
    yield
    for owner, name in PLACES:
        vars(owner).pop(name, None)
    for (owner, name), value in before.items():
        setattr(owner, name, value)


def test_every_missing_name_is_put_back_once(bare_jax):
    assert apply_patches() == NAMES
    assert apply_patches() == []


def test_names_that_exist_are_left_alone(bare_jax):
    own = SimpleNamespace()
    for owner, name in PLACES:
        setattr(owner, name, own)
    assert apply_patches() == []
    assert jax.tree_map is batching.BatchTracer is jax.core.thread_local_state is own


def test_one_name_alone_is_put_back(bare_jax):
    jax.tree_map = "own"
    assert apply_patches() == NAMES[1:]
    assert jax.tree_map == "own"


def test_the_names_do_what_brax_wants_of_them():
    import_brax_envs()
    assert jax.tree_map(lambda x, y: x + y, {"a": 1}, {"a": 2}) == {"a": 3}
    seen = []
    jax.vmap(lambda x: seen.append(isinstance(x, batching.BatchTracer)) or x)(jnp.zeros(2))
    assert seen == [True]


def test_in_jit_tells_whether_a_trace_is_on():
    import_brax_envs()
    from brax import jumpy

    seen = {}

    def note(where, x):
        seen[where] = jumpy._in_jit()
        return x

    note("outside", 0)
    jax.jit(lambda x: note("jit", x))(0.0)
    jax.jit(lambda: note("jit without arguments", 0.0))()
    jax.lax.scan(lambda c, x: (note("scan", c), x), 0.0, jnp.arange(3))
    jax.make_jaxpr(lambda x: note("make_jaxpr", x))(0.0)
    jax.vmap(lambda x: note("vmap", x))(jnp.zeros(2))
    note("afterwards", 0)
    assert seen == {
        "outside": False,
        "jit": True,
        "jit without arguments": True,
        "scan": True,
        "make_jaxpr": True,
        "vmap": False,
        "afterwards": False,
    }


@pytest.mark.slow
def test_brax_imports_silently_in_a_fresh_interpreter():
    code = f"from {brax_compat.__name__} import import_brax_envs; print(import_brax_envs().__name__)"
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "brax.envs\n", "")


def test_stderr_works_again_after_the_import(capsys):
    import_brax_envs()
    print("still here", file=sys.stderr)
    assert capsys.readouterr().err == "still here\n"


@pytest.mark.slow
def test_brax_is_imported_where_neither_python_nor_setuptools_brings_distutils(tmp_path):
    code = (
        "import importlib.machinery as m, sys\n"
        "find, gone = m.PathFinder.find_spec, ('distutils', 'setuptools', '_distutils_hack', 'pkg_resources')\n"
        "m.PathFinder.find_spec = classmethod(lambda cls, name, *rest: None if name in gone else find(name, *rest))\n"
        "sys.meta_path = [f for f in sys.meta_path if type(f).__name__ != 'DistutilsMetaFinder']\n"
        "from evoconn_cli.tasks.brax_compat import import_brax_envs\n"
        "assert import_brax_envs().get_environment and 'distutils' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
