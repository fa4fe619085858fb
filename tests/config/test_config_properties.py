"""Any text either loads to a valid configuration or gives a ConfigError, and a valid one survives being written."""

from __future__ import annotations

import contextlib

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from evoconn_cli.config.fields import walk
from evoconn_cli.config.loading import load_config, override_config, read_config, resolve_config, write_config
from evoconn_cli.config.reading import read_overrides, read_yaml
from evoconn_cli.config.registry import names, preset_names
from evoconn_cli.config.schema import RunConfig, is_text
from evoconn_cli.errors import ConfigError

KEYS = sorted({key for key, _, _ in walk(RunConfig())})
FREE_KEYS = ["seed", "algo.generations", "checkpoint.every", "rollout.warmup_steps", "network.tau_m_ms"]
SWITCHES = {key for key, value, _ in walk(RunConfig()) if isinstance(value, bool)}
TASKS = names("task")
WORDS = [*TASKS, *names("strategy"), *names("network"), *(part for key in KEYS for part in key.split("."))]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 3),
    st.floats(),
    st.dates(),
    st.datetimes(),
    st.binary(max_size=4),
    st.text(max_size=8),
    st.sampled_from(["???", "${seed}", "${oc.env:HOME}", "${", "!!python/name:os.system", "*a", "&a", "<<", "null"]),
    st.sampled_from(WORDS),
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.sampled_from(WORDS), SCALARS), inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def nearly_valid(draw):
    """A configuration in which a few keys have arbitrary values."""
    tree: dict = {"task": {"name": draw(st.sampled_from(TASKS))}}
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=4)):
        *sections, last = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
            assume(isinstance(node, dict))
        node[last] = draw(NESTED)
    return tree


def assert_valid_or_config_error(tmp_path, load):
    try:
        config = load()
    except ConfigError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert isinstance(config, RunConfig)
    write_config(config, tmp_path / "written.yaml")
    assert read_config(tmp_path / "written.yaml") == config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("configs")


def load_text(folder, text: str | bytes):
    path = folder / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return load_config(str(path))


@given(text=st.one_of(st.text(), st.binary(), st.text(alphabet="{}[]:,-&*!|>'\"#%@`?\\ \n\tab01~<=.")))
def test_any_text(folder, text):
    assert_valid_or_config_error(folder, lambda: load_text(folder, text))


@pytest.mark.slow
@given(tree=st.one_of(NESTED, nearly_valid()))
@example({"task": {"name": "hopper"}, "network": {"name": []}})
def test_any_yaml(folder, tree):
    try:
        text = yaml.safe_dump(tree, allow_unicode=True)
    except yaml.YAMLError:
        assume(False)
    assert_valid_or_config_error(folder, lambda: load_text(folder, text))


@pytest.mark.slow
@given(
    preset=st.sampled_from(preset_names()),
    position=st.floats(0, 1),
    removed=st.integers(0, 30),
    inserted=st.text(alphabet="{}[]:,-&*!|>'\"# \n\tab01~.", max_size=4),
)
def test_any_edit_of_a_preset(folder, preset, position, removed, inserted):
    write_config(load_config(preset, ["task.name=hopper"]), folder / "valid.yaml")
    text = (folder / "valid.yaml").read_text()
    cut = int(position * len(text))
    assert_valid_or_config_error(folder, lambda: load_text(folder, text[:cut] + inserted + text[cut + removed :]))


@pytest.mark.slow
@given(
    overrides=st.lists(
        st.one_of(
            st.text(max_size=20),
            st.builds("{}={}".format, st.sampled_from(KEYS), st.one_of(st.text(max_size=10), SCALARS)),
            st.builds("{}.{}={}".format, st.sampled_from(KEYS), st.text(max_size=3), SCALARS),
        ),
        max_size=4,
    )
)
@example(["network.name.="])
@example(["task.name=two\nlines"])
def test_any_overrides(folder, overrides):
    config = load_config("laptop")
    assert_valid_or_config_error(folder, lambda: load_config(None, ["task.name=hopper", *overrides]))
    assert_valid_or_config_error(folder, lambda: override_config(config, overrides))


def resolved(pairs):
    given = read_overrides(["task.name=hopper", *(f"{key}={value}" for key, value in pairs)], is_text)
    return {key: value for key, value, _ in walk(resolve_config(given))}


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.integers(1, 9)), max_size=5))
def test_small_whole_numbers_are_taken_as_they_are_or_refused(pairs):
    with contextlib.suppress(ConfigError):
        values = resolved(pairs)
        for key, value in dict(pairs).items():
            assert str(values[key]) in (("True",) if key in SWITCHES else (str(value), f"{value}.0"))


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from(FREE_KEYS), st.integers(1, 9)), max_size=5))
def test_small_whole_numbers_that_nothing_speaks_against_are_taken(pairs):
    """The properties above would hold if everything were refused."""
    values = resolved(pairs)
    assert {key: values[key] for key, _ in pairs} == dict(pairs)


def test_some_texts_are_valid(folder):
    assert load_text(folder, "task: {name: hopper}\nseed: 3").seed == 3
    assert read_yaml(folder / "mine.yaml") == {"task": {"name": "hopper"}, "seed": "3"}
