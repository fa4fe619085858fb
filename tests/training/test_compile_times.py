from __future__ import annotations

import dataclasses

import jax
import pytest

from evoconn_cli.config.loading import load_config
from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.training.compile_times import CompileTimes

CONFIG = load_config("smoke")


def of(config=CONFIG) -> CompileTimes:
    return CompileTimes(config, make_worker_mesh(jax.devices()[:1]), "xla")


@pytest.fixture
def set_cache():
    """Sets the directory of the compilation cache for one test, in which nothing is compiled."""
    before = jax.config.values["jax_compilation_cache_dir"]
    yield lambda path: jax.config.update("jax_compilation_cache_dir", path)
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def cache(set_cache, tmp_path):
    set_cache(str(tmp_path))
    return tmp_path


def compile_(times: CompileTimes, event: str):
    times.start()
    jax.monitoring.record_event(f"/jax/compilation_cache/{event}")
    return times.stop()


def test_the_time_of_a_compilation_is_known_at_the_next_start_of_the_same_kind(cache):
    assert of().start() is None
    assert not compile_(of(), "cache_misses").from_cache
    last = of(dataclasses.replace(CONFIG, seed=7)).start()
    assert last is not None and last.seconds >= 0 and not last.from_cache
    other = dataclasses.replace(CONFIG, network=dataclasses.replace(CONFIG.network, num_neurons=65))
    assert of(other).start() is None


def test_a_program_from_the_cache_is_told_from_one_that_was_compiled(cache):
    assert compile_(of(), "cache_hits").from_cache
    last = of().start()
    assert last is not None and last.from_cache and last.text().endswith(" s, from the cache")


@pytest.mark.parametrize("text", ["{", "[]", '{"KIND": "long"}', '{"KIND": [true]}'])
def test_a_broken_file_is_replaced(cache, text):
    compile_(of(), "cache_misses")
    (file,) = cache.iterdir()
    kind = file.read_text().split('"')[1]
    file.write_text(text.replace("KIND", kind))
    assert of().start() is None
    compile_(of(), "cache_misses")
    assert of().start() is not None


def test_the_kinds_that_were_compiled_last_are_remembered(cache):
    for neurons in range(1, 203):
        network = dataclasses.replace(CONFIG.network, num_neurons=neurons)
        compile_(of(dataclasses.replace(CONFIG, network=network)), "cache_misses")
    assert compile_(of(), "cache_misses") and (cache / "evoconn-compile-times.json").read_text().count(":") == 200


@pytest.mark.parametrize("place", [None, "gs://bucket/cache"])
def test_without_a_cache_on_disk_nothing_is_remembered(set_cache, monkeypatch, tmp_path, place):
    monkeypatch.chdir(tmp_path)
    set_cache(place)
    compile_(of(), "cache_misses")
    assert of().start() is None and not list(tmp_path.iterdir())
