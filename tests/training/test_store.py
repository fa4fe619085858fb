"""The checkpoint store: what is kept, and that nothing is restored but what was saved."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil

import jax
import numpy as np
import pytest

from evoconn_cli import __version__
from evoconn_cli.config.loading import load_config, override_config
from evoconn_cli.engine.build import build_engine
from evoconn_cli.engine.devices import start_jax
from evoconn_cli.errors import CheckpointError, DamagedCheckpointError
from evoconn_cli.training.checkpoint_facts import what_shapes_a_run
from evoconn_cli.training.checkpoints import CheckpointStore, HostFacts, remove_for_good

CONFIG = load_config(
    "smoke",
    ["algo.population=16", "network.num_neurons=8", "engine.block=8", "checkpoint.keep_last=2", "seed=7"],
)


@pytest.fixture(scope="module")
def initial():
    return build_engine(CONFIG, start_jax(2)).initial_state()


def state_of(initial, generation: int):
    """Returns a state that differs from those of other generations in every array but the key."""
    changed = jax.tree.map(lambda x: x + np.asarray(generation, x.dtype), initial)
    return changed._replace(generation=np.int32(generation), key=initial.key)


def save_all(directory, initial, fitness, config=CONFIG):
    """Saves generations 1, 2, ... with these evaluation fitnesses."""
    store = CheckpointStore(directory, config)
    for generation, value in enumerate(fitness, start=1):
        store.save(state_of(initial, generation), HostFacts(elapsed=generation / 3), value)
    return store


@pytest.fixture(scope="module")
def saved(tmp_path_factory, initial):
    """A store with the generations 1 to 3, all of them kept."""
    directory = tmp_path_factory.mktemp("store") / "checkpoints"
    save_all(directory, initial, [1.0, 3.0, 2.0], override_config(CONFIG, ["checkpoint.keep_last=3"]))
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def restore(directory, generation, initial, config=None):
    return CheckpointStore(directory).restore(generation, initial, jax.devices()[0], config)


def assert_is(state, initial, generation):
    for found, expected in zip(jax.tree.leaves(state), jax.tree.leaves(state_of(initial, generation)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_what_is_restored_is_what_was_saved(saved, initial):
    for generation in (1, 2, 3):
        state, host = restore(saved, generation, initial, CONFIG)
        assert_is(state, initial, generation)
        assert host.elapsed == generation / 3
        assert {x.devices() == {jax.devices()[0]} for x in jax.tree.leaves(state)} == {True}


def test_the_latest_and_the_best_are_known_in_another_process(saved):
    store = CheckpointStore(saved)
    assert (store.generations(), store.latest(), store.best()) == ([1, 2, 3], 3, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fitness, kept, best",
    [
        ([5.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [1, 6, 7], 1),
        ([1.0, 5.0, 2.0, 5.0, 1.0, 1.0, 1.0], [4, 6, 7], 4),
        ([math.nan, 1.0, math.inf, -math.inf, math.nan], [2, 4, 5], 2),
        ([math.nan, math.nan, math.nan], [2, 3], None),
    ],
)
def test_the_newest_and_the_best_are_kept(tmp_path, initial, fitness, kept, best):
    store = save_all(tmp_path, initial, fitness)
    assert store.generations() == kept
    assert store.best() == best
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(generation) for generation in kept]


def test_each_so_many_are_kept(tmp_path, initial):
    config = override_config(CONFIG, ["checkpoint.keep_every=3", "checkpoint.keep_last=1"])
    assert save_all(tmp_path, initial, range(8), config).generations() == [3, 6, 8]


def test_remains_of_a_process_that_died_are_removed_and_never_taken_for_checkpoints(copy, initial):
    shutil.copytree(copy / "3", copy / ".saving-4")
    shutil.copytree(copy / "3", copy / ".deleting-0")
    (copy / ".saving-5").mkdir()
    assert CheckpointStore(copy).generations() == [1, 2, 3]
    assert (copy / ".saving-4").exists(), "a reader deletes nothing"
    CheckpointStore(copy, CONFIG)
    assert sorted(path.name for path in copy.iterdir()) == ["1", "2", "3"]


def test_a_reader_writes_nothing(saved, initial):
    with pytest.raises(ValueError, match="reading"):
        CheckpointStore(saved).save(state_of(initial, 4), HostFacts(0.0), 0.0)


def test_a_generation_that_exists_is_not_overwritten(copy, initial):
    with pytest.raises(CheckpointError, match="generation 3 could not be written.*Saved before and kept: 1, 2, 3"):
        CheckpointStore(copy, CONFIG).save(state_of(initial, 3), HostFacts(0.0), 0.0)
    assert_is(restore(copy, 3, initial)[0], initial, 3)
    assert sorted(path.name for path in copy.iterdir()) == ["1", "2", "3"]


class LateWrites:
    """A clock, and writes that come after one has failed, at `moments` of it."""

    def __init__(self, directory, moments):
        self.now, self.left, self._directory = 0.0, list(moments), directory

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        while self.left and self.left[0] <= self.now:
            self._directory.mkdir(parents=True, exist_ok=True)
            (self._directory / str(self.left.pop(0))).write_bytes(b"late")


@pytest.mark.parametrize("moments", [(), (0.0,), (0.01,), (0.3, 0.7, 1.1)])
def test_writes_that_end_after_one_has_failed_leave_nothing(tmp_path, moments):
    """TensorStore makes directories that it misses, and goes on with other files after Orbax has given up."""
    clock = LateWrites(tmp_path / ".saving-4" / "state" / "d", moments)
    remove_for_good(tmp_path / ".saving-4", clock.monotonic, clock.sleep)
    assert not clock.left
    assert not list(tmp_path.iterdir())


def test_removing_what_comes_back_for_ever_is_given_up(tmp_path):
    clock = LateWrites(tmp_path / ".saving-4", np.arange(0, 60, 0.1))
    remove_for_good(tmp_path / ".saving-4", clock.monotonic, clock.sleep)
    assert 4 < clock.now < 6


# What can happen to a file


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


HARM = {
    "cut off": half,
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "one bit": flip_a_bit,
    "a directory": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.slow
@pytest.mark.parametrize("harm", HARM.values(), ids=HARM.keys())
def test_harm_to_any_file_is_found_and_the_checkpoint_before_is_taken(copy, initial, harm):
    whole = copy.parent / "whole"
    shutil.move(copy / "3", whole)
    files = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    assert len(files) > 8
    for file in files:
        shutil.copytree(whole, copy / "3")
        harm(copy / "3" / file)
        notes = []
        state, host, damaged = CheckpointStore(copy).restore_latest(initial, jax.devices()[0], notes.append, CONFIG)
        assert_is(state, initial, 2)
        assert (host.elapsed, damaged) == (2 / 3, [3]), file
        assert len(notes) == 1 and f"generation 3 in {copy} is damaged: {file}" in notes[0]
        shutil.rmtree(copy / "3")


def test_an_empty_directory_is_a_damaged_checkpoint(copy, initial):
    (copy / "9").mkdir()
    notes = []
    _, _, damaged = CheckpointStore(copy).restore_latest(initial, jax.devices()[0], notes.append)
    assert damaged == [9] and "facts.json is missing" in notes[0]
    assert CheckpointStore(copy).best() == 2


def test_where_all_are_damaged_none_is_taken(copy, initial):
    for facts in copy.glob("*/facts.json"):
        facts.unlink()
    with pytest.raises(DamagedCheckpointError, match="all checkpoints in .* are damaged.*--from-step 0"):
        CheckpointStore(copy).restore_latest(initial, jax.devices()[0], lambda _: None)


def test_where_nothing_is_saved_there_is_nothing(tmp_path, initial):
    store = CheckpointStore(tmp_path / "nothing")
    assert store.restore_latest(initial, jax.devices()[0], lambda _: None) is None
    assert (store.latest(), store.best(), store.generations()) == (None, None, [])
    assert not list(tmp_path.iterdir())


# Checkpoints that are whole, and of something else


def rewrite(step, **facts):
    """Changes the facts of a checkpoint as another version or an attacker would: with a digest that fits."""
    file = step / "facts.json"
    changed = {**json.loads(file.read_text()), **facts}
    changed.pop("digest")
    digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps({**changed, "digest": digest}))


def refusal(directory, initial, config=CONFIG, generation=3):
    with pytest.raises(CheckpointError) as caught:
        restore(directory, generation, initial, config)
    assert not isinstance(caught.value, DamagedCheckpointError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_format_is_refused_with_the_version_that_wrote_it(copy, initial):
    rewrite(copy / "3", format=99, evoconn="9.9.9")
    assert f"format 99, and evoconn {__version__} reads format 2" in refusal(copy, initial)
    assert "evoconn 9.9.9" in refusal(copy, initial, None)


def test_another_generator_is_refused(copy, initial):
    rewrite(copy / "3", rng="rbg")
    assert "generator 'rbg'" in refusal(copy, initial) and "'threefry2x32'" in refusal(copy, initial)


@pytest.mark.parametrize(
    "override, was",
    [
        ("network.num_neurons=9", "network.num_neurons=8"),
        ("task.name=probe_bias", "task.name=probe_sign"),
        ("task.episode_length=17", "task.episode_length=16"),
        ("algo.learning_rate=0.2", "algo.learning_rate=0.15"),
        ("algo.population=18", "algo.population=16"),
        ("seed=8", "seed=7"),
        ("engine.block=4", "engine.block=8"),
        ("rollout.resets=fresh", "rollout.resets=fixed"),
    ],
)
def test_another_configuration_is_refused_by_the_key_that_differs(saved, initial, override, was):
    config = override_config(CONFIG, [override])
    assert f"trained with {was}, and the run's configuration says {override}." in refusal(saved, initial, config)


def test_what_may_change_on_resume_does_not_matter(saved, initial):
    changed = override_config(
        CONFIG,
        ["algo.generations=9", "engine.devices=1", "engine.kernel=xla", "checkpoint.every=3", "tracking.project=other"],
    )
    restore(saved, 3, initial, changed)


def test_arrays_of_another_shape_are_refused_without_a_configuration_too(saved):
    larger = override_config(CONFIG, ["network.num_neurons=9"])
    like = build_engine(larger, start_jax(2)).initial_state()
    message = refusal(saved, like, None)
    assert "strategy.adam.mu.input is float32 [4, 8], this run has float32 [4, 9]" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "part, array", [("strategy", "probs.recurrent"), ("strategy", "adam.nu"), ("normalizer", "std")]
)
def test_a_checkpoint_of_a_run_that_had_diverged_is_refused_and_not_taken_for_a_damaged_one(
    tmp_path, initial, part, array, value
):
    """Versions before this one could write them."""

    def spoil(path, x):
        name = ".".join(str(getattr(key, "name", getattr(key, "key", key))) for key in path)
        return x.at[(0,) * x.ndim].set(value) if name.startswith(array) else x

    store = save_all(tmp_path, initial, [1.0, 2.0])
    state = state_of(initial, 3)
    bad = state._replace(**{part: jax.tree_util.tree_map_with_path(spoil, getattr(state, part))})
    store.save(bad, HostFacts(), 3.0)
    assert f"diverged: {part}.{array}" in refusal(tmp_path, initial)
    with pytest.raises(CheckpointError, match="diverged.*--from-step"):
        store.restore_latest(initial, jax.devices()[0], pytest.fail, CONFIG)
    assert_is(restore(tmp_path, 2, initial, CONFIG)[0], initial, 2)


def test_a_renamed_checkpoint_is_refused(copy, initial):
    (copy / "3").rename(copy / "30")
    assert "is that of generation 3" in refusal(copy, initial, generation=30)


@pytest.mark.parametrize(
    "facts", [{"files": []}, {"files": None}, {"elapsed": "long"}, {"config": 3}, {"generation": None}, {"rng": []}]
)
def test_facts_of_another_type_are_damage(copy, initial, facts):
    rewrite(copy / "3", **facts)
    with pytest.raises(DamagedCheckpointError):
        restore(copy, 3, initial)


@pytest.mark.parametrize("text", ["[]", "null", '"x"', "[" * 100_000, "\ud800", "NaN"])
def test_facts_that_are_no_facts_are_damage(copy, initial, text):
    (copy / "3" / "facts.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DamagedCheckpointError):
        restore(copy, 3, initial)


def test_files_outside_the_checkpoint_are_not_read(copy, initial):
    rewrite(copy / "3", files={"../../../../../../../../dev/zero": "0"})
    with pytest.raises(DamagedCheckpointError, match="is missing"):
        restore(copy, 3, initial)


def test_a_state_saved_on_another_kind_of_device_is_restored_on_this_one(copy, initial):
    """The file in which Orbax notes the devices is made to name a GPU that is not here."""
    sharding = copy / "3" / "state" / "_sharding"
    text = sharding.read_text()
    assert "cpu" in text.lower()
    sharding.write_text(text.replace("TFRT_CPU_0", "cuda:5").replace("cpu", "cuda"))
    files = {
        str(path.relative_to(copy / "3")): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (copy / "3" / "state").rglob("*")
        if path.is_file()
    }
    rewrite(copy / "3", files=files)
    state, _ = restore(copy, 3, initial, CONFIG)
    assert_is(state, initial, 3)


def test_every_key_of_a_configuration_shapes_a_run_or_may_change():
    shaping = what_shapes_a_run(CONFIG)
    sections = {field.name for field in dataclasses.fields(CONFIG)}
    assert {key.split(".")[0] for key in shaping} == sections - {"checkpoint", "tracking"}
    assert "algo.generations" not in shaping and "engine.devices" not in shaping
