"""Plug-ins on the command line: what a run records of them, and what is said if they are missing or wrong."""

from __future__ import annotations

import json
import re
import sys

import pytest
from plugins import POINT, RATE, forgotten, install
from saved_runs import save_run
from typer.testing import CliRunner

from evoconn_cli import load_run
from evoconn_cli.app import app
from evoconn_cli.config.plugins import load_plugins
from evoconn_cli.errors import ConfigError

SMALL = ("algo.population=16", "network.num_neurons=8", "algo.generations=2", "tracking.wandb=disabled")


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch):
    monkeypatch.delenv("EVOCONN_PLUGINS", raising=False)
    with forgotten():
        yield


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Returns the working directory, with the plug-ins point.py and rate.py."""
    (tmp_path / "point.py").write_text(POINT)
    (tmp_path / "rate.py").write_text(RATE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here):
    """Returns a run of the task `point` with checkpoints; the plug-in is forgotten again."""
    with forgotten():
        load_plugins(["point.py"])
        save_run(here / "run", "task.name=point", "task.mass=2")
    return here / "run"


def shown(output: str) -> str:
    """Returns help without frames and line breaks."""
    return re.sub(r"[\s│]+", " ", output)


# Training


def test_a_run_records_its_plugin_and_resumes_with_it_alone(light, evoconn, here):
    train = ("train", "--task", "point", "task.mass=2", *SMALL, "--run-dir", "run")
    assert evoconn(*train)[:1] == (2,)
    with forgotten():
        code, out, _ = evoconn(*train, "--plugin", "point.py")
    assert code == 0 and "To train it further: evoconn resume run --plugin point.py --generations 4" in out
    (record,) = json.loads((here / "run/run.json").read_text())["plugins"]
    assert (record["kind"], record["name"], record["plugin"], record["package"]) == ("task", "point", "point.py", None)
    assert len(record["sha256"]) == 64
    code, _, err = evoconn("resume", "run", "--generations", "3")
    assert code == 2 and "the run run uses the task 'point' of the plug-in point.py, which is not loaded" in err
    assert "--plugin point.py" in err
    code, out, _ = evoconn("resume", "run", "--generations", "3", "--plugin=point.py")
    assert code == 0 and "has changed" not in out


def test_a_changed_plugin_is_a_notice_and_then_what_is_recorded(light, evoconn, here):
    with forgotten():
        assert evoconn("train", "--task", "point", *SMALL, "--run-dir", "run", "--plugin", "point.py")[0] == 0
    (here / "point.py").write_text(POINT + "# changed\n")
    for changed in (True, False):
        with forgotten():
            code, out, _ = evoconn("resume", "run", "--plugin", "point.py", "--generations", str(4 - changed))
        assert code == 0 and ("the task 'point' comes from point.py, which has changed since" in out) == changed


def test_the_variable_names_plugins_like_the_option(light, evoconn, here, monkeypatch):
    monkeypatch.setenv("EVOCONN_PLUGINS", "point.py:rate.py")
    code, _, err = evoconn("train", "--task", "point", "--network", "rate", "algo.sigma=1", *SMALL, "--run-dir", "run")
    assert code == 2 and "algo.learning_rate=null: nothing is published for the network rate." in err


# Saved runs


@pytest.mark.parametrize("command", ["resume", "evaluate", "render", "export-connectivity"])
def test_every_command_says_which_option_loads_what_a_run_used(evoconn, run, command):
    code, _, err = evoconn(command, "run")
    assert code == 2
    assert err == (
        "Error: the run run uses the task 'point' of the plug-in point.py, which is not loaded. Add --plugin with your "
        "copy of point.py: --plugin point.py. In Python, import it first.\n"
    )


def test_python_opens_such_a_run_once_the_plugin_is_imported(run, monkeypatch):
    with pytest.raises(ConfigError, match="--plugin point.py. In Python, import it first."):
        load_run(run)
    monkeypatch.syspath_prepend(run.parent)
    import point  # noqa: F401

    assert load_run(run).config.task.mass == 2


def test_a_task_without_poses_is_not_drawn(evoconn, run):
    code, _, err = evoconn("render", "run", "--plugin", "point.py")
    assert (code, err) == (
        2,
        "Error: the task 'point' of point.py has no body that could be drawn: it gives no poses. evaluate and "
        "export-connectivity need none.\n",
    )


def test_opening_a_run_with_another_version_is_a_notice(evoconn, run):
    (run.parent / "point.py").write_text(POINT + "# changed\n")
    _, _, err = evoconn("render", "run", "--plugin", "point.py")
    assert "Notice: the task 'point' comes from point.py, which has changed since: what was trained may act" in err


# Messages


def test_an_error_of_a_plugin_shows_its_own_lines_and_no_internals(evoconn, here):
    (here / "point.py").write_text(POINT.replace("        v = v + 0.1", "        v = nothing\n        v = v + 0.1"))
    code, _, err = evoconn("train", "--plugin", "point.py", "--task", "point", *SMALL, "--run-dir", "run")
    assert code == 2
    assert err == (
        "Error: the task 'point' of point.py: step fails: NameError: name 'nothing' is not defined.\n"
        f'  File "{here}/point.py", line 28, in step\n'
        "    v = nothing\n"
        "        ^^^^^^^\n"
    )


def test_an_error_where_nothing_is_checked_is_shown_like_that_too(evoconn, here):
    text = POINT.replace(
        "above=0)\n", "above=0)\n\n    def __post_init__(self):\n        if self.mass == 3:\n            1 / 0\n"
    )
    (here / "point.py").write_text(text)
    code, _, err = evoconn("train", "--plugin", "point.py", "--task", "point", "task.mass=3")
    assert code == 2
    assert err.startswith("Error: the plug-in point.py fails: ZeroDivisionError: division by zero.\n  File ")
    assert "evoconn_cli" not in err and "omegaconf" not in err


# Help and completion


def test_help_lists_the_names_and_keys_of_plugins_that_are_given(here, monkeypatch):
    given = ["--plugin", "point.py", "--help"]
    text = shown(CliRunner().invoke(app, ["train", *given]).output)
    assert "--task point A point on a line that is pushed. From point.py." in text
    assert "task.mass mass of the point [kg] [default: 1.0]" in text
    assert "task.episode_length longest episode [steps] [default: 8]" in text and "task.action_repeat" not in text
    text = shown(CliRunner().invoke(app, ["evaluate", *given]).output)
    assert "--task point" in text and "task.mass" not in text
    with forgotten():
        monkeypatch.setenv("EVOCONN_PLUGINS", "rate.py")
        text = shown(CliRunner().invoke(app, ["train", "--help"]).output)
    assert "--network rate" in text and "network.leak share of the state that is kept [default: 0.5]" in text


def test_without_plugins_help_has_no_panel_of_them():
    assert "Plug-ins" not in CliRunner().invoke(app, ["train", "--help"]).output


def complete(line: str) -> list[str]:
    words = line.split(" ")
    environment = {"_EVOCONN_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return CliRunner().invoke(app, [], prog_name="evoconn", env=environment).output.split()


def test_an_installed_plugin_is_in_help_and_completion_without_being_imported(tmp_path, monkeypatch):
    install(tmp_path, "pushed", "task.point", text="raise SystemExit('it is imported')")
    install(tmp_path, "rated", "network.rate", "strategy.climb", text="raise 1", package="rated 2.0")
    monkeypatch.syspath_prepend(tmp_path)
    text = shown(CliRunner().invoke(app, ["train", "--help"]).output)
    assert "--task point From the installed package pushed 1.2." in text
    assert "--algo climb From the installed package rated 2.0." in text
    assert complete("evoconn train --task po") == ["point"]
    assert complete("evoconn train --network r") == ["rate"]
    assert complete("evoconn train --algo c") == ["climb"]
    assert complete("evoconn evaluate x --reference po") == ["point="]
    assert "pushed" not in sys.modules and "rated" not in sys.modules


def test_the_keys_of_an_installed_plugin_are_shown_once_it_is_chosen(tmp_path, monkeypatch):
    install(tmp_path, "pushed_tasks", "task.point")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["evoconn", "train", "--task", "point", "--help"])
    text = shown(CliRunner().invoke(app, ["train", "--task", "point", "--help"]).output)
    assert "From pushed 1.2." in text and "task.mass mass of the point [kg]" in text
    assert complete("evoconn train --task point task.m") == ["task.mass="]


def test_the_shell_completes_without_running_a_file(here):
    (here / "point.py").write_text("open('canary', 'w')\n" + POINT)
    assert complete("evoconn train --plugin point.py --task po") == []
    assert not (here / "canary").exists()
