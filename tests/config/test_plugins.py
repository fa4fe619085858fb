"""Plug-ins: registering, loading, installed packages, and what is refused."""

from __future__ import annotations

import sys

import pytest
from plugins import POINT, forgotten, install

import evoconn_cli
from evoconn_cli.config.loading import config_from_yaml, config_to_yaml, load_config
from evoconn_cli.config.plugins import load_plugins, to_load
from evoconn_cli.config.registry import find, names
from evoconn_cli.errors import ConfigError, PluginError


@pytest.fixture(autouse=True)
def nothing_left():
    with forgotten():
        yield


@pytest.fixture
def point(tmp_path):
    """Returns the path of a file with the task `point`, which has the key `task.mass`."""
    (tmp_path / "point.py").write_text(POINT)
    return tmp_path / "point.py"


# Keys


def test_the_keys_of_a_plugin_are_read_checked_and_written_like_our_own(point):
    load_plugins([str(point)])
    config = load_config(None, ["task.name=point", "task.mass=0.5"])
    assert (config.task.mass, config.task.episode_length, config.task.action_repeat) == (0.5, 8, 1)
    assert config_from_yaml(config_to_yaml(config)) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.mass=0", "task.mass=0.0: must be more than 0."),
        ("task.mass=heavy", "task.mass=heavy: must be a number, such as 1.0."),
        ("task.mas=1", "unknown key 'task.mas'. Did you mean 'task.mass'?"),
        ("task.name=hopper", "unknown key 'task.mass': it is a key of point, and the task is hopper."),
    ],
)
def test_a_wrong_value_of_a_plugin_is_the_same_error_as_of_our_own(point, override, message):
    load_plugins([str(point)])
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["task.name=point", "task.mass=1", override])
    assert str(caught.value) == message


@pytest.mark.parametrize("head", ["", "from __future__ import annotations\n"])
def test_all_types_of_keys_are_read_with_and_without_postponed_annotations(tmp_path, head):
    fields = (
        "count: int = option(3, 'n')\n    rate: float | None = option(None, 'r')\n    flag: bool = option(True, 'f')"
    )
    text = POINT.replace('episode_length: int = option(8, "longest episode", unit="steps", low=1)', fields)
    text = text.replace(
        'mass: float = option(1.0, "mass', "label: str = option('a', 'l')\n    mass: float = option(1.0, \"mass"
    )
    (tmp_path / "point.py").write_text(head + text.partition('"""\n\n')[2])
    load_plugins([str(tmp_path / "point.py")])
    given = ["task.count=5", "task.rate=1e-3", "task.flag=false", "task.label=[1] #2"]
    task = load_config(None, ["task.name=point", *given]).task
    assert (task.count, task.rate, task.flag, task.label) == (5, 1e-3, False, "[1] #2")
    with pytest.raises(ConfigError, match="task.count=1.5: must be a whole number"):
        load_config(None, ["task.name=point", "task.count=1.5"])


WRONG_KEYS = {
    "no dataclass": ("@dataclass(frozen=True)\n", "", r"put @dataclasses.dataclass\(frozen=True\) above it"),
    "not frozen": ("@dataclass(frozen=True)", "@dataclass", "cannot inherit non-frozen dataclass from a frozen one"),
    "of another kind": (
        "PointConfig(TaskConfig)",
        "PointConfig(evoconn_cli.AlgoConfig)",
        "must extend evoconn_cli.Task",
    ),
    "a bare field": ('option(1.0, "mass of the point", unit="kg", above=0)', "1.0", "field mass: write `mass: float ="),
    "another type": ("mass: float", "mass: list[float]", r"the type 'list\[float\]' cannot be a key's|list\[float\]"),
    "an unknown type": ("mass: float", "mass: 'Mass'", "an annotation cannot be read: name 'Mass' is not defined"),
    "a default of another type": ("option(1.0", "option('1'", "the default '1' is no float"),
    "a default out of range": ("option(1.0", "option(-1.0", "the default mass=-1.0: must be more than 0"),
    "a name of its own": ("mass: float", "name: str", "the name is given where it is registered"),
    "a capital": ('register_task("point"', 'register_task("Point"', "small letters, digits and '_'"),
    "our name": ('register_task("point"', 'register_task("hopper"', "there is a task 'hopper' already. Choose another"),
    "the name of a key": ('register_task("point"', 'register_task("mass"', "has the name of one of its keys"),
}


@pytest.mark.parametrize(("old", "new", "message"), WRONG_KEYS.values(), ids=WRONG_KEYS.keys())
def test_what_cannot_be_registered_is_refused_by_name_and_leaves_nothing(point, old, new, message):
    assert old in POINT
    point.write_text(POINT.replace(old, new))
    before = names("task")
    with pytest.raises(PluginError, match=message) as caught:
        load_plugins([str(point)])
    assert str(caught.value).startswith("the plug-in point.py")
    assert names("task") == before and to_load() == []


# Loading


def test_a_plugin_is_loaded_once_whatever_its_path_is_called(point, monkeypatch):
    monkeypatch.chdir(point.parent)
    load_plugins(["point.py", str(point), "./point.py"])
    assert to_load() == [str(point)]
    assert list(point.parent.iterdir()) == [point], "nothing is written beside it"


def test_a_module_is_loaded_by_its_name(point, monkeypatch):
    monkeypatch.syspath_prepend(point.parent)
    load_plugins(["point"])
    assert "point" in names("task") and to_load() == ["point"]


def test_two_plugins_of_one_name_are_refused(point):
    (point.parent / "other.py").write_text(POINT)
    with pytest.raises(PluginError, match="the plug-in other.py: there is a task 'point' already, of point.py."):
        load_plugins([str(point), str(point.parent / "other.py")])


@pytest.mark.parametrize(
    ("text", "message", "lines"),
    [
        ("import os\n\n\ndef f():\n    return 1 / 0\n\n\nf()\n", "fails: ZeroDivisionError: division by zero.", [8, 5]),
        ("def f(:\n", "fails: SyntaxError: invalid syntax", [1]),
        ("import nowhere\n", "fails: ModuleNotFoundError: No module named 'nowhere'.", [1]),
        ("raise SystemExit(3)\n", "fails: SystemExit: 3.", [1]),
        ("x = 1\n", "registers nothing. Put @evoconn_cli.register_task", []),
    ],
)
def test_a_file_that_cannot_be_loaded_is_one_message_with_its_own_lines(point, text, message, lines):
    point.write_text(text)
    with pytest.raises(PluginError) as caught:
        load_plugins([str(point)])
    assert f"the plug-in point.py {message}" in str(caught.value)
    notes = "\n".join(getattr(caught.value, "__notes__", []))
    assert [f'point.py", line {line}' in notes for line in lines] == [True] * len(lines)
    assert "evoconn_cli/" not in notes and "importlib" not in notes


def test_a_file_that_registers_nothing_is_refused_beside_one_of_its_name(point):
    load_plugins([str(point)])
    (point.parent / "b").mkdir()
    (point.parent / "b" / "point.py").write_text("x = 1")
    with pytest.raises(PluginError, match="registers nothing"):
        load_plugins([str(point.parent / "b" / "point.py")])
    assert to_load() == [str(point)]


def test_a_missing_file_and_what_is_no_module_are_errors(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.py cannot be read: No such file"):
        load_plugins([str(tmp_path / "nowhere.py")])
    with pytest.raises(ConfigError, match="the plug-in a-b is neither a Python file, such as ./plugin.py, nor"):
        load_plugins(["a-b"])


def test_python_registers_without_a_file_and_again_in_a_notebook():
    def make(config):
        pytest.fail("nothing makes it here")

    for _ in range(2):
        assert evoconn_cli.register_task("mine")(make) is make
    assert find("task", "mine").config is evoconn_cli.TaskConfig


# Networks and strategies


def test_a_strategy_and_a_network_of_plugins_go_with_what_has_the_same_candidates():
    evoconn_cli.register_network("sums", candidates="weights", published={"es": {"sigma": 0.1, "learning_rate": 0.1}})(
        int
    )
    evoconn_cli.register_strategy("climb", candidates="connections")(int)
    assert load_config(None, ["task.name=hopper", "network.name=sums"]).algo.name == "es"
    assert load_config(None, ["task.name=hopper", "algo.name=climb"]).network.name == "conn_snn"
    with pytest.raises(ConfigError, match="the strategy 'climb' cannot search the network 'sums'"):
        load_config(None, ["task.name=hopper", "algo.name=climb", "network.name=sums"])


def test_a_network_whose_strategy_nobody_has_is_an_error():
    evoconn_cli.register_network("delays", candidates="delays")(int)
    with pytest.raises(ConfigError, match="no strategy goes with the network 'delays'. Add the plug-in"):
        load_config(None, ["task.name=hopper", "network.name=delays"])


# Installed packages


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Returns a folder on the module path, for installed packages."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_an_installed_plugin_is_known_by_name_and_imported_once_it_is_chosen(site):
    install(site, "pushed_tasks", "task.point", "task.hopper")
    assert "point" in names("task") and "pushed_tasks" not in sys.modules
    assert load_config(None, ["task.name=hopper"]).task.name == "hopper"
    with pytest.raises(ConfigError, match="Did you mean 'point'"):
        load_config(None, ["task.name=piont"])
    assert "pushed_tasks" not in sys.modules
    assert load_config(None, ["task.name=point", "task.mass=2"]).task.mass == 2
    assert find("task", "point").plugin.package == "pushed 1.2"


def test_no_installed_package_replaces_what_evoconn_has(site):
    install(site, "pushed_tasks", "task.hopper", text=POINT.replace('"point"', '"hopper"'))
    assert find("task", "hopper").plugin is None and names("task").count("hopper") == 1


def test_two_packages_with_the_same_name_are_an_error_once_it_is_chosen(site):
    install(site, "pushed_tasks", "task.point")
    install(site, "pulled_tasks", "task.point", package="pulled 0.3")
    assert load_config(None, ["task.name=hopper"])
    with pytest.raises(PluginError, match="offered by two installed packages, pulled 0.3 and pushed 1.2"):
        load_config(None, ["task.name=point"])


def test_an_installed_plugin_that_registers_something_else_is_named(site):
    install(site, "pushed_tasks", "task.swing")
    with pytest.raises(PluginError, match="pushed_tasks of the package pushed 1.2 registers no task 'swing'"):
        load_config(None, ["task.name=swing"])


def test_a_file_does_not_take_the_name_of_an_installed_plugin(site, tmp_path):
    install(site, "pushed_tasks", "task.point")
    (tmp_path / "mine.py").write_text(POINT)
    with pytest.raises(PluginError, match="already, of the installed package pushed 1.2"):
        load_plugins([str(tmp_path / "mine.py")])
    load_plugins(["pushed_tasks"])
    assert find("task", "point").plugin.label == "pushed_tasks"
