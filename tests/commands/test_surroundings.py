"""What a command finds around it: streams, variables, directories and users of containers, pipes and odd terminals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_lines import COMMANDS
from paths import LIGHT_EVOCONN
from PIL import Image
from saved_runs import save_run
from started import killed_after, start

from evoconn_cli.app import main
from evoconn_cli.commands.hints import Command
from evoconn_cli.commands.options import complete_run, complete_saved
from evoconn_cli.config.registry import zoo_names
from evoconn_cli.runs.directory import RunDirectory

EVALUATE = [sys.executable, "-m", "evoconn_cli", "evaluate", "run", "--episodes", "4", "--csv", "rows.csv"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    save_run(folder / "run")
    return folder


def environment(**variables):
    """Returns the environment with some variables changed; None removes one."""
    changed = {**os.environ, **variables}
    return {name: value for name, value in changed.items() if value is not None}


def run(folder, command, **kwargs):
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, **kwargs)


def evaluated(folder):
    """Returns the number of lines of the file that `EVALUATE` writes, which is gone then."""
    lines = (folder / "rows.csv").read_text().splitlines()
    (folder / "rows.csv").unlink()
    return len(lines)


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_costs_no_file_and_is_no_failure(folder):
    process = start(EVALUATE, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    with killed_after(process):
        assert process.stderr.read() == ""
        assert process.wait() == 0
    process.stderr.close()
    assert evaluated(folder) == 5


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_output_that_is_lost_to_a_full_disk_is_an_error_after_the_files(folder):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*EVALUATE, "--json", "-"], cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120
        )
    assert done.returncode == 1 and "the output cannot be written: No space left" in done.stderr
    assert evaluated(folder) == 5


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&- <&-"])
def test_a_command_without_streams_does_its_work(folder, closed):
    done = run(folder, ["sh", "-c", f'"$@" {closed}', "sh", *EVALUATE])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert evaluated(folder) == 5


@pytest.mark.slow
def test_a_training_without_output_finishes(folder):
    arguments = ["--config", "smoke", "--population", "16", "--generations", "1", "--run-dir", "trained"]
    command = [*LIGHT_EVOCONN, "train", *arguments]
    done = run(folder, ["sh", "-c", '"$@" >&-', "sh", *command])
    assert done.returncode == 0, done.stderr
    assert RunDirectory.open(folder / "trained").read_facts()["status"] == "finished"


@pytest.mark.parametrize("columns", ["0", "1", "-1", "wide", "999999999999"])
def test_a_terminal_without_a_width_has_the_usual_one(folder, columns):
    done = run(folder, [sys.executable, "-m", "evoconn_cli", "--help"], env=environment(COLUMNS=columns, LINES="0"))
    assert "launch-grid" in done.stdout and len(done.stdout.splitlines()) < 60


@pytest.mark.slow
def test_forced_colours_move_no_cursor_in_a_file(folder):
    command = [
        sys.executable,
        "-m",
        "evoconn_cli",
        "export-connectivity",
        "run",
        "--format",
        "graphml",
        "--out",
        "x.graphml",
    ]
    done = run(folder, command, env=environment(FORCE_COLOR="1"))
    assert done.stdout == "graphml: x.graphml\n" and done.stderr == ""
    done = run(folder, EVALUATE, env=environment(FORCE_COLOR="1"))
    assert "\x1b[1" in done.stdout and evaluated(folder) == 5
    assert not any(code in done.stdout + done.stderr for code in ("\x1b[?25", "\x1b[2K", "\x1b[1A"))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"FORCE_COLOR": "1"}, "\x1b[1;31mError:\x1b[0m no run"),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, "Error: no run"),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, "Error: no run"),
        ({}, "Error: no run"),
    ],
    ids=str,
)
def test_errors_heed_what_the_user_wants_of_colours(monkeypatch, capsys, variables, expected):
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **variables}.items():
        monkeypatch.setenv(name, value)
    assert fails(monkeypatch, "evaluate", "nowhere") == 1
    assert capsys.readouterr().err.startswith(expected)


def fails(monkeypatch, *arguments):
    """Runs a command line in this process, and returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["evoconn", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


@pytest.mark.parametrize("spelled", [["--run-dir=~/x"], ["--run-dir", "~/x"]], ids=str)
def test_a_path_that_begins_at_home_is_there(monkeypatch, capsys, tmp_path, spelled):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "x").mkdir(parents=True)
    (tmp_path / "home" / "x" / "thesis").touch()
    assert fails(monkeypatch, "train", "--config", "smoke", *spelled) == 1
    assert f"{tmp_path}/home/x exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_all_commands_read_their_arguments_alike():
    assert all(isinstance(command, Command) for command in COMMANDS.values())


def test_a_path_that_only_looks_like_home_is_shown_so_that_it_can_be_typed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert RunDirectory(Path("~/x")).short_path() == "./~/x"


def test_paths_at_home_are_completed(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("one", "other", "hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").touch()
    assert complete_run("~/o") == ["~/one", "~/other"]


def test_completion_goes_on_beside_what_may_not_be_looked_at(monkeypatch, tmp_path):
    """As root everything may be, so the error is one of its own."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").touch()
    (tmp_path / "secret").mkdir()
    stat = os.stat

    def refuse(path, *args, **kwargs):
        if "secret" in os.fspath(path):
            raise PermissionError(13, "Permission denied")
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.chdir(tmp_path)
    assert complete_run("") == ["run"]


def test_networks_of_the_zoo_are_completed_after_runs(monkeypatch, tmp_path):
    (tmp_path / "zero").mkdir()
    (tmp_path / "zero" / "run.json").touch()
    monkeypatch.chdir(tmp_path)
    assert complete_saved("z") == ["zero", *(f"zoo:{name}" for name in zoo_names())]
    assert complete_saved("zoo:hop") == ["zoo:hopper"] and complete_saved("y") == []


def test_a_directory_that_was_removed_is_said(monkeypatch, capsys, tmp_path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert fails(monkeypatch, "train", "--config", "smoke") == 1
    assert "the current directory cannot be used: No such file or directory" in capsys.readouterr().err


def test_a_user_without_a_name_and_a_home_is_told_what_is_missing(monkeypatch, capsys, tmp_path):
    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    assert fails(monkeypatch, "train", "--config", "smoke", "--run-dir=~/x") == 2
    assert "the home directory is not known. Set HOME" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


MATPLOTLIBRC = b"backend: nonsense\ntext.usetex: True\nsavefig.dpi: 20\n\xff\n"


@pytest.mark.slow
def test_variables_and_files_for_matplotlib_change_nothing(folder, tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(MATPLOTLIBRC)
    variables = environment(
        MPLBACKEND="module://no_such_module", MATPLOTLIBRC=str(tmp_path), MPLCONFIGDIR=str(tmp_path)
    )
    done = run(folder, [*EVALUATE, "--plot", "curve.png"], env=variables)
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(folder / "curve.png") as picture:
        assert picture.size == (900, 600)
    assert evaluated(folder) == 5


@pytest.mark.slow
def test_an_evaluation_without_a_plot_needs_no_matplotlib(folder):
    code = (
        "import sys; from evoconn_cli.app import main\n"
        f"sys.argv = {['evoconn', *EVALUATE[3:]]!r}; sys.modules['matplotlib'] = None\n"
        "main()\n"
    )
    done = run(folder, [sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
    assert evaluated(folder) == 5


@pytest.mark.slow
def test_a_matplotlibrc_beside_the_command_that_is_no_text_is_an_error_before_the_episodes(folder):
    (folder / "matplotlibrc").write_bytes(MATPLOTLIBRC)
    done = run(folder, [*EVALUATE, "--plot", "curve.png"])
    (folder / "matplotlibrc").unlink()
    assert done.returncode == 1 and "plots cannot be drawn: 'utf-8' codec" in done.stderr
    assert "Traceback" not in done.stderr and not (folder / "rows.csv").exists()
