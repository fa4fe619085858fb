"""Files that commands write: what is no ordinary file is written to and not replaced, and a file keeps its mode."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evoconn_cli.app import app
from evoconn_cli.errors import ConfigError, EvoconnError
from evoconn_cli.output import (
    check_output,
    check_target,
    in_a_run,
    place_problem,
    replace_text,
    whole_file,
    write_whole,
)


def write_file(path):
    check_output(path, "--csv")
    with whole_file(path) as partial:
        partial.write_text("new")


def export(path):
    check_target(path, force=True)
    write_whole(lambda partial: partial.write_text("new"), path, force=True)


writers = pytest.mark.parametrize("write", [write_file, export])


@writers
def test_a_pipe_is_written_to(tmp_path, write):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write(pipe)
    assert os.read(reader, 100) == b"new"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe.csv"]


def test_an_export_to_a_pipe_replaces_nothing_and_needs_no_force(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    check_target(tmp_path / "pipe", force=False)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="exists already"):
        check_target(tmp_path / "file", force=False)


@writers
def test_a_link_is_followed_and_a_file_keeps_its_mode(tmp_path, write):
    file, link, dangling = (tmp_path / name for name in ("file.csv", "link.csv", "dangling.csv"))
    file.write_text("old")
    file.chmod(0o600)
    link.symlink_to(file.name)
    dangling.symlink_to("folder/made.csv")
    (tmp_path / "folder").mkdir()
    write(link)
    write(dangling)
    assert link.is_symlink() and dangling.is_symlink()
    assert file.read_text() == (tmp_path / "folder" / "made.csv").read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_place_that_a_link_names_is_the_one_that_is_checked(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file" / "x")
    assert "is a file, not a directory" in (place_problem(tmp_path / "link") or "")


def test_a_name_that_no_file_can_have_is_refused_before_anything_is_computed(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ConfigError, match="too many levels of symbolic links"):
        check_output(tmp_path / "a", "--csv")
    with pytest.raises(ConfigError, match="file name too long"):
        check_output(tmp_path / f"{'x' * 252}.csv", "--csv")


@writers
def test_the_longest_name_is_written(tmp_path, write):
    path = tmp_path / ("\u00e9" * 125 + "x.csv")
    assert len(os.fsencode(path.name)) == 255
    write(path)
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("command", ["evaluate --csv", "evaluate --plot", "evaluate --curve", "render --out",
                                     "export-connectivity --out"])  # fmt: skip
def test_a_file_to_write_need_not_be_readable(tmp_path, monkeypatch, command):
    (tmp_path / "x.png").touch()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **k: mode != os.R_OK and access(path, mode, **k))
    name, option = command.split()
    done = CliRunner().invoke(app, [name, str(tmp_path / "none"), option, str(tmp_path / "x.png")])
    assert "no run" in f"{done.output} {done.exception}"
    assert "not readable" not in done.output


def test_a_socket_is_refused(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(ConfigError, match="neither a file nor a pipe"):
            check_output(tmp_path / "s", "--csv")


def test_a_full_device_is_an_error_and_a_reader_that_has_seen_enough_is_none(tmp_path):
    if os.path.exists("/dev/full"):
        with pytest.raises(EvoconnError, match="/dev/full cannot be written: No space left"):
            write_file(Path("/dev/full"))
    reader, writer = os.pipe()
    os.close(reader)
    write_file(Path(f"/dev/fd/{writer}"))
    os.close(writer)


@pytest.mark.parametrize("name", ["/dev/stdout", "log"])
def test_what_this_process_prints_to_is_not_replaced(tmp_path, name):
    code = (
        "import sys; from pathlib import Path; from evoconn_cli.output import whole_file, place_problem\n"
        f"print('before'); path = Path({name!r}); assert place_problem(path) is None\n"
        "with whole_file(path) as partial: partial.write_text('rows\\n')\n"
        "print('after')\n"
    )
    with (tmp_path / "log").open("w") as log:
        subprocess.run([sys.executable, "-c", code], stdout=log, cwd=tmp_path, check=True)
    assert (tmp_path / "log").read_text() == "before\nrows\nafter\n"


def test_the_files_of_a_run_keep_their_mode_and_their_links_are_replaced(tmp_path):
    file, link = tmp_path / "run.json", tmp_path / "link"
    file.touch(0o640)
    file.chmod(0o640)
    link.symlink_to(file)
    replace_text(file, "new")
    replace_text(link, "other")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640 and file.read_text() == "new"
    assert not link.is_symlink()


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV])
def test_a_mount_and_a_link_to_another_disk_are_written_in_place(tmp_path, monkeypatch, number):
    def busy(self, target):
        raise OSError(number, os.strerror(number))

    (tmp_path / "file").write_text("old and longer")
    monkeypatch.setattr("pathlib.Path.replace", busy)
    write_file(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_link_that_a_run_came_with_is_not_followed(tmp_path):
    precious, link = tmp_path / "precious", tmp_path / "link"
    precious.write_text("thesis")
    link.symlink_to(precious)
    write_file(in_a_run(link))
    assert (precious.read_text(), link.read_text(), link.is_symlink()) == ("thesis", "new", False)
