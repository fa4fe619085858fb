from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from evoconn_cli.config.loading import load_config, override_config
from evoconn_cli.runs.guarded import reason_of, within
from evoconn_cli.training import tracking as tracker
from evoconn_cli.training.tracking import WandbTracker, is_copy, open_tracker, place_of
from evoconn_cli.training.wandb_account import choose_mode, find_api_key

pytestmark = pytest.mark.usefixtures("no_account")

KEY = "0123456789abcdef" * 3
CLOUD = "https://api.wandb.ai"


@pytest.fixture
def notes():
    return []


def config_of(mode: str):
    return load_config(overrides=["task.name=hopper", f"tracking.wandb={mode}", "tracking.project=probe"])


def open_in(tmp_path: Path, mode: str, notes: list[str], run_id: str | None = None):
    return open_tracker(config_of(mode), tmp_path, run_id, notes.append)


class FakeRun:
    def __init__(self, failing=()):
        self.failing = failing
        self.logged = []
        self.exit_code = None

    def define_metric(self, name, step_metric):
        assert (name, step_metric) == ("*", "generation")

    def log(self, metrics, step):
        if "log" in self.failing:
            raise ConnectionResetError("Connection lost")
        self.logged.append((step, metrics))

    def finish(self, exit_code):
        if "finish" in self.failing:
            raise OSError("disk is full")
        self.exit_code = exit_code


class FakeWandb(types.ModuleType):
    """Stands in for the library; `failing` names the calls that raise."""

    def __init__(self, *failing):
        super().__init__("wandb")
        self.failing = failing
        self.run = FakeRun(failing)
        self.inits = []
        self.teardowns = 0

    def Settings(self, **options):  # noqa: N802
        return types.SimpleNamespace(**options)

    def setup(self, settings):
        assert settings.silent
        if "setup" in self.failing:
            raise RuntimeError("the service did not start")
        given = {"project": os.environ.get("WANDB_PROJECT"), "run_name": os.environ.get("WANDB_NAME")}
        return types.SimpleNamespace(settings=types.SimpleNamespace(base_url=CLOUD, **given))

    def init(self, **options):
        self.inits.append(options)
        sys.exit, sys.excepthook = print, print  # what the real one leaves behind
        if "init" in self.failing or options["mode"] in self.failing:
            raise RuntimeError(f"no answer from https://user:password@host with {KEY}\nsecond line")
        return self.run

    def teardown(self):
        self.teardowns += 1


@pytest.fixture
def fake(monkeypatch):
    def install(*failing):
        module = FakeWandb(*failing)
        monkeypatch.setitem(sys.modules, "wandb", module)
        return module

    return install


# The mode, and the key


@pytest.mark.parametrize(
    ("setting", "variable", "mode"),
    [
        ("auto", None, "auto"),
        ("auto", "", "auto"),
        ("auto", "online", "online"),
        ("auto", "OFFLINE", "offline"),
        ("auto", "dryrun", "offline"),
        ("auto", "disabled", "disabled"),
        ("online", "disabled", "online"),
        ("offline", "online", "offline"),
        ("disabled", "online", "disabled"),
    ],
)
def test_the_configuration_decides_and_auto_leaves_it_to_the_environment(setting, variable, mode):
    assert choose_mode(setting, {} if variable is None else {"WANDB_MODE": variable}) == mode


def write_settings(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "settings").write_text(f"[default]\n{text}\n")


@pytest.mark.parametrize(
    ("environment", "everywhere", "here", "mode"),
    [
        ({}, "mode = offline", None, "offline"),
        ({}, None, "mode = disabled", "disabled"),
        ({}, "mode = disabled", "mode = online", "auto"),
        ({}, "mode = disabled\nnobody_knows = 1", None, "disabled"),
        ({}, "entity = me", "project = mine", "auto"),
        ({}, "mode = nonsense", "mode", "auto"),
        ({"WANDB_MODE": "online"}, "mode = disabled", None, "online"),
        ({"WANDB_DISABLED": "true", "WANDB_MODE": "online"}, None, None, "disabled"),
        ({"WANDB_DISABLED": "1"}, None, None, "disabled"),
        ({"WANDB_DISABLED": "false"}, None, None, "auto"),
    ],
)
@pytest.mark.parametrize("hidden", [False, True])
def test_every_way_to_say_no_is_heard(tmp_path, monkeypatch, environment, everywhere, here, mode, hidden):
    """As `wandb offline` and `wandb disabled` write it, or other libraries read it; a key is there all the time."""
    monkeypatch.chdir(tmp_path)
    if everywhere is not None:
        write_settings(tmp_path / "config" if hidden else tmp_path / "home" / ".config" / "wandb", everywhere)
    if here is not None:
        write_settings(tmp_path / (".wandb" if hidden else "wandb"), here)
    if hidden:
        environment = {**environment, "WANDB_CONFIG_DIR": str(tmp_path / "config")}
    assert choose_mode("auto", {"WANDB_API_KEY": KEY, **environment}) == mode
    assert choose_mode("online", {"WANDB_API_KEY": KEY, **environment}) == "online"


def test_a_mode_that_nobody_knows_is_named_and_does_not_change_the_configuration(tmp_path, notes, fake, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "garbage")
    fake()
    assert not isinstance(open_in(tmp_path, "auto", notes), WandbTracker)
    assert len(notes) == 1 and "WANDB_MODE=garbage: expected online" in notes[0]
    module = fake()
    open_in(tmp_path, "offline", notes)
    assert [init["mode"] for init in module.inits] == ["offline"] and len(notes) == 1


def test_the_reason_is_not_how_many_errors_pydantic_has_found(monkeypatch, tmp_path, notes):
    monkeypatch.setenv("WANDB_CONSOLE", "garbage")
    open_in(tmp_path, "offline", notes)
    assert len(notes) == 1 and "setting console: Input should be 'auto'" in notes[0]


def test_the_key_is_found_in_the_environment_before_netrc(tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert find_api_key(CLOUD, {"NETRC": str(netrc)}) == KEY
    assert find_api_key(CLOUD, {"NETRC": str(netrc), "WANDB_API_KEY": "first"}) == "first"


def test_the_key_of_another_server_is_never_used(tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text(
        f"machine api.wandb.ai login user password {KEY}\n"
        "machine own.server:8080 login user password own\n"
        "default login user password anything\n"
    )
    environment = {"NETRC": str(netrc)}
    assert find_api_key("https://own.server:8080", environment) == "own"
    assert find_api_key("https://other.server", environment) is None


@pytest.mark.parametrize("content", [None, "machine", b"\xff\xfe\x00"])
def test_a_missing_or_damaged_netrc_file_holds_no_key(tmp_path, content):
    netrc = tmp_path / "netrc"
    if isinstance(content, bytes):
        netrc.write_bytes(content)
    elif content is not None:
        netrc.write_text(content)
    assert find_api_key(CLOUD, {"NETRC": str(netrc)}) is None


def test_the_netrc_file_of_the_home_directory_is_read(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert find_api_key(CLOUD, {}) == KEY


# What a failing library does to a run: one note


def test_without_credentials_the_run_is_recorded_offline_with_one_note(tmp_path, notes, fake):
    for mode in ("auto", "online"):
        module = fake()
        notes.clear()
        open_in(tmp_path, mode, notes)
        assert [init["mode"] for init in module.inits] == ["offline"]
        assert len(notes) == 1
        assert "no credentials" in notes[0] and "wandb sync" in notes[0]


def test_offline_on_purpose_needs_no_note(tmp_path, notes, fake, monkeypatch):
    module = fake()
    open_in(tmp_path, "offline", notes)
    monkeypatch.setenv("WANDB_MODE", "offline")
    open_in(tmp_path, "auto", notes)
    assert [init["mode"] for init in module.inits] == ["offline", "offline"]
    assert notes == []


def test_with_credentials_auto_is_online(tmp_path, notes, fake, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    module = fake()
    tracker = open_in(tmp_path, "auto", notes, run_id="abcd1234")
    (init,) = module.inits
    assert (init["mode"], init["id"], init["resume"], init["dir"]) == (
        "online",
        "abcd1234",
        "allow",
        str(tmp_path),
    )
    assert init["settings"].console == "off" and init["settings"].silent
    assert init["config"]["task"]["name"] == "hopper"
    assert tracker.run_id == "abcd1234"
    assert notes == []


def test_a_server_that_does_not_answer_leaves_the_run_offline_with_the_same_id(tmp_path, notes, fake, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    module = fake("online")
    tracker = open_in(tmp_path, "auto", notes)
    assert [init["mode"] for init in module.inits] == ["online", "offline"]
    assert {init["id"] for init in module.inits} == {tracker.run_id}
    assert module.teardowns == 1
    assert len(notes) == 1
    assert KEY not in notes[0] and "password@" not in notes[0] and "\n" not in notes[0]


@pytest.mark.parametrize("failing", ["setup", "init"])
@pytest.mark.parametrize("mode", ["auto", "offline"])
def test_a_failing_start_turns_tracking_off(tmp_path, notes, fake, monkeypatch, failing, mode):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    fake(failing)
    tracker = open_in(tmp_path, mode, notes, run_id="abcd1234")
    tracker.log({"generation": 1}, 1)
    tracker.finish()
    assert not isinstance(tracker, WandbTracker)
    assert tracker.run_id == "abcd1234"
    assert len(notes) == 1


def test_a_library_that_cannot_be_imported_turns_tracking_off(tmp_path, notes, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert not isinstance(open_in(tmp_path, "auto", notes), WandbTracker)
    assert len(notes) == 1


@pytest.mark.parametrize("failing", ["log", "finish"])
def test_a_failing_call_is_noted_once(tmp_path, notes, fake, failing):
    fake(failing)
    tracker = open_in(tmp_path, "offline", notes)
    for generation in (1, 2, 3):
        tracker.log({"generation": generation}, generation)
    tracker.finish()
    tracker.finish()
    assert len(notes) == 1


def test_a_library_that_hangs_is_left_alone(tmp_path, notes, fake, monkeypatch):
    released = threading.Event()
    module = fake()
    monkeypatch.setattr(module, "init", lambda **_: released.wait(), raising=False)
    monkeypatch.setattr(tracker, "CALL_TIMEOUT", 0.05)
    assert not isinstance(open_in(tmp_path, "offline", notes), WandbTracker)
    released.set()
    assert len(notes) == 1


def test_metrics_that_are_none_are_left_out(tmp_path, notes, fake):
    module = fake()
    tracker = open_in(tmp_path, "offline", notes)
    tracker.log({"generation": 7, "fitness_mean": 0.0, "update_snr": None}, 7)
    tracker.finish(exit_code=1)
    assert module.run.logged == [(7, {"generation": 7, "fitness_mean": 0.0})]
    assert module.run.exit_code == 1
    assert notes == []


def test_exit_functions_of_the_process_are_put_back(tmp_path, notes, fake):
    before = sys.exit, sys.excepthook
    fake()
    open_in(tmp_path, "offline", notes)
    assert (sys.exit, sys.excepthook) == before


def test_sys_exit_inside_a_call_becomes_an_error():
    with pytest.raises(RuntimeError, match="SystemExit"):
        within(5, lambda: sys.exit(3))


def test_a_reason_without_text_names_its_type():
    assert reason_of(TimeoutError()) == "TimeoutError"
    assert len(reason_of(ValueError("x" * 1000))) == 160


# The library itself


def records_of(path: Path):
    """Yields the records of a .wandb file: a LevelDB log behind a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    data, position, record = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def history_of(path: Path) -> list[dict[str, float]]:
    return [
        {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records_of(path)
        if record.WhichOneof("record_type") == "history"
    ]


@pytest.mark.slow
def test_an_offline_run_can_be_read_back_and_holds_no_key(tmp_path, notes, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    hooks = sys.exit, sys.excepthook
    tracker = open_in(tmp_path, "offline", notes)
    for generation in (1, 2):
        metrics = {"generation": generation, "fitness_mean": 1.5 * generation, "update_snr": None}
        tracker.log(metrics, generation)
    tracker.finish()
    resumed = open_in(tmp_path, "offline", notes, run_id=tracker.run_id)
    resumed.log({"generation": 3, "fitness_mean": 4.5}, 3)
    resumed.finish()

    files = sorted(tmp_path.glob(f"wandb/offline-run-*/run-{tracker.run_id}.wandb"))
    lines = [line for file in files for line in history_of(file)]
    assert len(files) == 2
    assert [(line["_step"], line["generation"], line["fitness_mean"]) for line in lines] == [
        (1, 1, 1.5),
        (2, 2, 3.0),
        (3, 3, 4.5),
    ]
    assert all("update_snr" not in line for line in lines)
    assert notes == []
    assert capfd.readouterr() == ("", "")
    assert (sys.exit, sys.excepthook) == hooks
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not any(KEY.encode() in path.read_bytes() for path in written)


def test_group_name_and_tags_are_those_of_the_configuration(tmp_path, notes, fake):
    wandb = fake()
    given = ["tracking.group=small-hopper", "tracking.name=seed3", "tracking.tags='ec_brax, small,'"]
    plain, named = config_of("offline"), override_config(config_of("offline"), given)
    for config in (plain, named):
        open_tracker(config, tmp_path / "run", None, notes.append)
    first, second = wandb.inits
    assert (first["group"], first["name"], first["tags"]) == (None, "run", None)
    assert (second["group"], second["name"], second["tags"]) == ("small-hopper", "seed3", ["ec_brax", "small"])


@pytest.mark.parametrize("given, expected", [("null", ("theirs", "a name")), ("ours", ("ours", "ours"))])
def test_project_and_name_of_the_environment_count_where_the_configuration_has_none(
    tmp_path, notes, fake, monkeypatch, given, expected
):
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_NAME", "a name")
    wandb = fake()
    config = override_config(config_of("offline"), [f"tracking.project={given}", f"tracking.name={given}"])
    open_tracker(config, tmp_path, None, notes.append)
    assert [(init["project"], init["name"]) for init in wandb.inits] == [expected]


def test_without_any_project_it_is_evoconn(tmp_path, notes, fake):
    wandb = fake()
    open_tracker(override_config(config_of("offline"), ["tracking.project=null"]), tmp_path, None, notes.append)
    assert wandb.inits[0]["project"] == "evoconn"


@pytest.mark.slow
def test_the_service_writes_nothing_on_the_terminal_where_it_has_no_place_for_its_log(
    tmp_path, notes, monkeypatch, capfd
):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    monkeypatch.setenv("WANDB_CACHE_DIR", "/dev/null/cache")
    open_in(tmp_path, "offline", notes).finish()
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_no_file_of_wandb_says_where_the_run_lay(tmp_path, notes, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["evoconn", "train", "--run-dir", str(tmp_path)])
    open_in(tmp_path, "offline", notes).finish()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert [path for path in files if os.fsencode(tmp_path) in path.read_bytes()] == []


def test_a_copy_of_a_run_is_told_from_one_that_was_moved(tmp_path):
    original, moved, copied = (tmp_path / name for name in ("original", "moved", "copied"))
    original.mkdir()
    facts = {"wandb_id": "abcd1234", "wandb_place": place_of("abcd1234", original)}
    assert not any(str(tmp_path) in text for text in facts["wandb_place"])
    shutil.copytree(original, copied)
    assert not is_copy(facts, original) and is_copy(facts, copied)
    original.rename(moved)
    assert not is_copy(facts, moved)
    shutil.copytree(moved, original)  # as from a backup
    assert not is_copy(facts, original)
    assert not is_copy({"wandb_id": "abcd1234"}, copied), "of a version that noted no place"
    for nonsense in ("text", [], {}, 3, None):
        assert not is_copy({"wandb_id": "abcd1234", "wandb_place": nonsense}, copied)


SCRIPT = """
import sys
from pathlib import Path
from evoconn_cli.config.loading import load_config, override_config
from evoconn_cli.training.tracking import open_tracker
config = load_config(overrides=["task.name=hopper", "tracking.wandb=" + sys.argv[1]])
tracker = open_tracker(config, Path(sys.argv[2]), None, lambda message: print("NOTE", message))
tracker.log({"generation": 1}, 1)
tracker.finish()
print("id", tracker.run_id, "imported", "wandb" in sys.modules)
"""


def test_disabled_does_not_import_wandb(tmp_path):
    command = [sys.executable, "-c", SCRIPT, "disabled", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "id None imported False\n"
    assert done.stderr == ""


@pytest.mark.slow
def test_nothing_is_asked_on_a_terminal(tmp_path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", SCRIPT, "online", str(tmp_path)]
    subprocess.run(command, stdin=theirs, stdout=theirs, stderr=theirs, timeout=120, check=True)
    os.close(theirs)
    lines = os.read(ours, 65536).decode().splitlines()
    os.close(ours)
    assert len(lines) == 2
    assert lines[0].startswith("NOTE W&B: no credentials")
    assert lines[1].endswith("imported True")
