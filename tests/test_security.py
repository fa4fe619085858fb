"""What a stranger's configuration, run or checkpoint can not do: run code, write elsewhere, or learn a credential."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest
from grids import fill_with_modules, load_cells, write_grid
from paths import SUPPORT
from plugins import POINT, forgotten
from saved_runs import save_run
from typer.testing import CliRunner
from wandb_server import KEY, WandbServer
from whole_runs import resume_small, run_small

from evoconn_cli import load_run
from evoconn_cli.app import app
from evoconn_cli.config.grid import read_grid
from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.config.loading import load_config
from evoconn_cli.config.plugin_records import changed_plugins
from evoconn_cli.config.plugins import load_plugins
from evoconn_cli.errors import ConfigError, EvoconnError, RunDirectoryError, printable
from evoconn_cli.grid import ray_worker
from evoconn_cli.grid.cell_process import PROGRAM
from evoconn_cli.grid.slurm_script import make_script
from evoconn_cli.rendering import mujoco as gl
from evoconn_cli.runs.directory import RunDirectory
from evoconn_cli.runs.ending import read_ending
from evoconn_cli.runs.provenance import start_facts, what_changed, without_folders, without_secrets

# Code


WATCHED = """
import os, sys
sys.path.insert(0, {tests!r})
from light_engine import make_light_engine
from whole_runs import resume_small, run_small
from pathlib import Path
path = Path(sys.argv[1])
run_small(path, make_engine=make_light_engine)
events = []
def watch(event, arguments):
    if event == "pickle.find_class" or event.startswith("os.system") or event == "subprocess.Popen":
        events.append((event, str(arguments)))
    elif event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        events.append((event, os.fsdecode(arguments[0])))
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate"):
        events.extend((event, os.fsdecode(a)) for a in arguments if isinstance(a, (str, bytes)))
sys.addaudithook(watch)
assert resume_small(path, "algo.generations=9", from_step=4, make_engine=make_light_engine).finished
for event in list(events):
    print(*event)
"""


@pytest.mark.slow
def test_going_on_with_a_run_starts_no_code_and_writes_nowhere_else(tmp_path):
    """As Python itself reports it, file by file."""
    script = WATCHED.format(tests=str(SUPPORT))
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    events = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert len(events) > 50
    elsewhere = [
        (event, where)
        for event, where in events
        if not (where.startswith(str(tmp_path / "run")) or where == os.devnull)
        # What a checkpoint is deleted with names its files relative to their directory.
        and not (event in ("os.remove", "os.rmdir") and "/" not in where)
        and "rev-parse" not in where  # our own commit, for run.json
        and not ("evoconn-compile-times" in where or "evoconn-step-times" in where)  # in the compilation cache
    ]
    assert elsewhere == []


CHILDREN = {
    "a cell": [*PROGRAM, "--version"],
    "the guard of a cell on Ray": [*ray_worker.GUARD, str(os.getpid()), "true"],
    "a task of SLURM": ["bash", "SCRIPT"],
}


@pytest.mark.parametrize("command", CHILDREN.values(), ids=CHILDREN.keys())
def test_children_import_nothing_from_the_working_directory(tmp_path, command):
    """Nor from a package there, which would replace the physics without a word."""
    cells = load_cells(write_grid(tmp_path), tmp_path / "grid")
    script = make_script("a", cells, LaunchConfig(), tmp_path)
    script = script.replace("srun --quiet --cpus-per-task=4", "env").partition(" run-cell")[0] + " --version"
    (tmp_path / "SCRIPT").write_text(script)
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": "1"}
    done = subprocess.run(
        command, cwd=fill_with_modules(tmp_path), env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_looking_for_a_renderer_imports_nothing_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(fill_with_modules(tmp_path))
    assert "working directory" not in (gl.try_backend("egl") or "")


# Plug-ins


CANARY = "import pathlib\npathlib.Path(__file__).with_name('started').touch()\n" + POINT
"""A plug-in that says when it is run."""


@pytest.fixture(scope="module")
def run_with_plugin(tmp_path_factory):
    """Returns a run whose task is that of the plug-in point.py, in an otherwise empty folder."""
    folder = tmp_path_factory.mktemp("stranger")
    with forgotten():
        (folder / "point.py").write_text(POINT)
        load_plugins([str(folder / "point.py")])
        save_run(folder / "run", "task.name=point")
    return folder / "run"


@pytest.fixture
def canary(run_with_plugin, tmp_path, monkeypatch):
    """Returns such a run; a plug-in that must not run is in it, in the working directory and on the module path."""
    for name in ("EVOCONN_PLUGINS", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(run_with_plugin, tmp_path / "run")
    for folder in (tmp_path, tmp_path / "run"):
        (folder / "point.py").write_text(CANARY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with forgotten():
        yield tmp_path / "run"
    assert not list(tmp_path.rglob("started")), "the plug-in was run"


RECORDS = {
    "its file": {"plugin": "point.py", "sha256": "0" * 64},
    "a path": {"plugin": "/RUN/point.py"},
    "its module": {"plugin": "point"},
    "an installed package": {"plugin": "point", "package": "point 1.0"},
    "an option": {"plugin": "--plugin=/RUN/point.py"},
    "other fields": {"plugin": "point.py", "given": "/RUN/point.py", "path": "/RUN/point.py", "module": "point"},
    "no record": None,
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
def test_a_run_that_names_a_plugin_runs_none_of_it(canary, evoconn, record):
    records = [{"kind": "task", "name": "point", **record}] if record else []
    facts = {**json.loads((canary / "run.json").read_text()), "plugins": records}
    (canary / "run.json").write_text(json.dumps(facts).replace("/RUN", str(canary)))
    named = record["plugin"].rpartition("/")[2] if record else "unknown task 'point'"
    for command in ("resume", "evaluate", "render", "export-connectivity"):
        code, _, err = evoconn(command, "run")
        assert code == 2 and named in err and "--plugin" in err
        assert not record or str(canary) not in err
    assert evoconn("runs", ".")[0] == 0
    with pytest.raises(ConfigError):
        load_run(canary)
    assert evoconn("run-cell", "run")[0] == 2


@pytest.mark.parametrize(
    "text",
    [
        "task: {name: point}",
        "task: {name: point.py}",
        "task: {name: ./point.py}",
        "task: {name: 'point:make'}",
        "task: {name: hopper, plugin: point.py}",
        "plugins: [point.py]",
        "plugin: point.py",
        "network: {name: point}",
        "algo: {name: point}",
    ],
)
def test_a_configuration_that_names_a_plugin_runs_none_of_it(canary, tmp_path, text):
    with pytest.raises(ConfigError):
        load_text(tmp_path, text)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("plugins: [point.py]", "unknown"),
        ("launch: {plugin: point.py}", "unknown key 'launch.plugin'"),
        ("launch: {environment: {EVOCONN_PLUGINS: point.py}}", "cells have the plug-ins of launch-grid"),
        ("launch: {environment: {PYTHONPATH: .}}", "a grid file cannot set this variable"),
        ("launch: {environment: {PYTHONSTARTUP: point.py}}", "a grid file cannot set this variable"),
        ("launch: {environment: {LD_PRELOAD: ./x.so}}", "a grid file cannot set this variable"),
        ("launch: {environment: {BASH_ENV: ./x}}", "a grid file cannot set this variable"),
        ("launch: {environment: {PATH: .}}", "a grid file cannot set this variable"),
        ("launch: {environment: {JAX_COMPILATION_CACHE_DIR: cache}}", "a grid file cannot set this variable"),
        ("launch: {environment: {HOME: .}}", "a grid file cannot set this variable"),
        ("launch: {environment: {MPLBACKEND: 'module://point'}}", "a grid file cannot set this variable"),
        ("launch: {environment: {XLA_FLAGS: '--xla_gpu_cuda_data_dir=.'}}", "a grid file cannot set this variable"),
        ("launch: {environment: {XLA_FLAGS: flags.txt}}", "a grid file cannot set this variable"),
        ("launch: {environment: {WANDB_BASE_URL: 'http://localhost'}}", "a server that gets your keys"),
        ("launch: {environment: {https_proxy: 'http://localhost'}}", "a server that gets your keys"),
        ("launch: {environment: {PJRT_NAMES_AND_LIBRARY_PATHS: 'x:./x.so'}}", "a grid file cannot set this variable"),
        ("launch: {slurm: {sbatch: {export: 'ALL,LD_PRELOAD=./x.so'}}}", "a grid file cannot say this"),
        ("launch: {slurm: {sbatch: {container: ./x}}}", "a grid file cannot say this"),
        ("launch: {slurm: {sbatch: {error: /home/me/.bashrc}}}", "a grid file cannot say this"),
    ],
)
def test_a_grid_file_that_names_code_is_refused(canary, tmp_path, section, message):
    text = f"base: smoke\nsets: {{a: {{}}}}\ntasks: [probe_sign]\nseeds: [0]\n{section}\n"
    with pytest.raises(ConfigError, match=message):
        read_grid(str(write_grid(tmp_path, text)))


def test_what_a_grid_file_cannot_say_the_person_at_the_keyboard_can(tmp_path):
    text = "base: smoke\nsets: {a: {}}\ntasks: [probe_sign]\nseeds: [0]\n"
    launch = read_grid(str(write_grid(tmp_path, text)), ["launch.environment.PYTHONPATH=lib"]).launch
    assert launch.environment == {"PYTHONPATH": "lib"}
    flags = "--xla_force_host_platform_device_count=2"
    harmless = f"{text}launch: {{environment: {{XLA_FLAGS: {flags}, OMP_NUM_THREADS: 2, WANDB_MODE: offline}}}}\n"
    assert read_grid(str(write_grid(tmp_path, harmless))).launch.environment["XLA_FLAGS"] == flags


@pytest.mark.slow
def test_a_bundle_that_names_a_plugin_runs_none_of_it(canary, evoconn, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "point.py").write_text(POINT)
    with forgotten():
        given = ("--plugin", str(tmp_path / "mine" / "point.py"))
        code, _, err = evoconn("export-connectivity", str(canary), "--out", "bundle", "--episode-steps", "4", *given)
        assert code == 0, err
    for command in ("evaluate", "render", "export-connectivity"):
        code, _, err = evoconn(command, "bundle")
        assert code == 2 and "the bundle bundle uses the task 'point' of the plug-in point.py" in err
    with forgotten():
        assert evoconn("evaluate", "bundle", "--episodes", "2", *given)[0] == 0


def test_the_option_that_a_message_shows_is_harmless_in_a_shell(canary, evoconn):
    facts = json.loads((canary / "run.json").read_text())
    facts["plugins"] = [{"kind": "task", "name": "point", "plugin": "a.py; touch started; b.py"}]
    (canary / "run.json").write_text(json.dumps(facts))
    assert "--plugin 'a.py; touch started; b.py'. In" in evoconn("evaluate", str(canary))[2]


def test_what_a_stranger_calls_a_plugin_is_shown_harmlessly(canary, evoconn):
    facts = json.loads((canary / "run.json").read_text())
    facts["plugins"] = [
        {"kind": "task", "name": "\x1b[2J", "plugin": "a/\x1b]0;title\x07" + "x" * 10_000},
        {"kind": []},
        3,
    ]
    (canary / "run.json").write_text(json.dumps(facts))
    code, _, err = evoconn("evaluate", str(canary))
    assert code == 2 and err.rstrip("\n").isprintable() and len(err) < 1000


# Configurations


def load_text(tmp_path, text: str):
    (tmp_path / "hostile.yaml").write_text(text)
    return load_config(str(tmp_path / "hostile.yaml"))


ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
HOSTILE_YAML = {
    "an object": "task: !!python/object/apply:os.system ['touch {canary}']",
    "a call": "task: !!python/object/new:subprocess.Popen [['touch', '{canary}']]",
    "a module": "task: !!python/module:antigravity",
    "a name": "seed: !!python/name:os.system",
    "a tuple": "seed: !!python/tuple [1]",
    "a tag of its own": "seed: !evil 3",
    "10^11 aliases": ALIASES,
    "an alias of itself": "task: &a {name: *a}",
    "a merge of itself": "task: &a\n  <<: *a",
    "a deep list": "[" * 50_000,
    "a deep mapping": "{a: " * 5_000,
    "a deep block": "".join("{indent}a:\n".replace("{indent}", " " * n) for n in range(400)),
    "a large file": "# " + "x" * 200_000,
    "a large number": "seed: " + "9" * 90_000,
    "the environment": "task: {name: hopper}\ntracking: {project: '${oc.env:EVOCONN_TEST_TOKEN}'}",
    "the environment, hidden": "task: {name: hopper}\ntracking: {project: 'a${oc.env:${oc.decode:EVOCONN}}'}",
    "decoding": "task: {name: hopper}\nseed: '${oc.decode:\"3\"}'",
    "a reference": "task: {name: hopper}\ntracking: {project: '${task.name}'}",
    "a path as task": "task: {name: ../../x}",
    "a path as network": "task: {name: hopper}\nnetwork: {name: ../../x}",
    "a path as strategy": "task: {name: hopper}\nalgo: {name: /etc/passwd}",
    "an escape sequence": 'task: {name: "\\e]0;title\\a"}',
}


@pytest.mark.parametrize("text", HOSTILE_YAML.values(), ids=HOSTILE_YAML.keys())
def test_hostile_yaml_is_one_error(tmp_path, monkeypatch, text):
    monkeypatch.setenv("EVOCONN_TEST_TOKEN", "hunter2-hunter2")
    canary = tmp_path / "canary"
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text.replace("{canary}", str(canary)))
    assert not canary.exists()
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


@pytest.mark.parametrize("override", ["tracking.project=${oc.env:EVOCONN_TEST_TOKEN}", "seed=!!python/name:os.system"])
def test_hostile_overrides_are_one_error(monkeypatch, override):
    monkeypatch.setenv("EVOCONN_TEST_TOKEN", "hunter2-hunter2")
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["task.name=hopper", override])
    assert "hunter2" not in str(caught.value)


def test_ordinary_anchors_are_no_attack(tmp_path):
    config = load_text(tmp_path, "task: {name: hopper}\nseed: &n 3\nalgo: {generations: *n}")
    assert (config.seed, config.algo.generations) == (3, 3)


# Paths


NAMES = [
    "two words",
    "-x",
    "--help",
    "a'b\"c",
    "$(touch pwned)",
    "\x1b]0;title\x07",
    "two\nlines",
    "näme",
    "100%",
    "~",
    "a{b}${c}",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_directory_of_any_name_can_be_trained_and_resumed_by_the_command_that_is_shown(
    light, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    arguments = ["algo.population=16", "network.num_neurons=8", "--generations", "2", "--run-dir", name]
    done = CliRunner().invoke(app, ["train", "--config", "smoke", *arguments])
    assert done.exit_code == 0, done.output
    assert [entry.name for entry in tmp_path.iterdir()] == [name.split("/")[0]]
    shown = done.output.partition("To train it further: ")[2].strip()
    if name.isprintable():
        done = CliRunner().invoke(app, shlex.split(shown)[1:])
        assert done.exit_code == 0, done.output
        assert (tmp_path / name / "checkpoints" / "4").is_dir()


@pytest.mark.parametrize("name", [os.fsdecode(b"\xff"), "[bold]", "[/nothing]/x", "a [1]/x"], ids=ascii)
def test_a_name_with_which_checkpoints_would_be_lost_is_refused_at_once(light, tmp_path, name):
    """Orbax takes what is between brackets for a pattern, finds nothing, and saves that."""
    with pytest.raises(RunDirectoryError, match="Orbax cannot handle"):
        run_small(tmp_path / name)
    assert not list(tmp_path.iterdir())
    run_small(tmp_path / "run", "algo.generations=2")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "run").rename(tmp_path / name)
    with pytest.raises(RunDirectoryError, match="Orbax cannot handle"):
        resume_small(tmp_path / name, "algo.generations=4")


def test_messages_hold_nothing_that_a_terminal_obeys(tmp_path):
    with pytest.raises(RunDirectoryError) as caught:
        RunDirectory.open(tmp_path / "\x1b[2J\nEverything is fine")
    assert str(caught.value).isprintable() and "\\x1b[2J\\nEverything" in str(caught.value)
    assert printable("a\tb\udcff\u202e") == "a\\tb\\udcff\\u202e"


def test_notes_about_a_run_hold_nothing_that_a_terminal_obeys(canary):
    title = "\x1b]0;title\x07"
    ended = {"by": "algo.patience", "reason": title + "x" * 10_000, "generation": 6}
    ending = read_ending({"status": "finished", "ended": ended}, 6)
    assert ending is not None and ending.reason.startswith(r"\x1b]0;title\x07x") and len(ending.reason) < 1000
    now = start_facts("1 x cpu")
    changed = what_changed({**now, "versions": {"jax": title}, "devices": f"1 x {title}"}, now)
    assert changed is not None and changed.isprintable() and "title" in changed
    record = {"kind": "task", "name": "point", "plugin": title, "package": title, "sha256": title}
    (canary.parent / "mine.py").write_text(POINT)
    load_plugins([str(canary.parent / "mine.py")])
    (change,) = changed_plugins({"plugins": [record]}, load_config("smoke", ["task.name=point"]))
    assert change.isprintable() and "title" in change


@pytest.mark.parametrize("name", ["checkpoints", "set-aside", "metrics.jsonl", "tensorboard", "wandb"])
def test_links_out_of_a_run_are_refused(light, tmp_path, name):
    run_small(tmp_path / "run", "algo.generations=2")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis").write_text("text")
    entry = tmp_path / "run" / name
    if entry.exists():
        entry.rename(tmp_path / "moved")
    entry.symlink_to(precious)
    with pytest.raises(RunDirectoryError, match="symbolic link"):
        resume_small(tmp_path / "run", "algo.generations=4")
    assert [path.name for path in precious.iterdir()] == ["thesis"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run.json", "config.yaml", "checkpoints/.saving-4", "checkpoints/.deleting-2"])
def test_links_that_are_replaced_or_removed_are_not_followed(light, tmp_path, name):
    run_small(tmp_path / "run", "algo.generations=2")
    target = tmp_path / "target"
    entry = tmp_path / "run" / name
    if entry.exists():
        entry.rename(target)
        text = target.read_text()
    else:
        target.mkdir()
        (target / "thesis").write_text(text := "text")
    entry.symlink_to(target)
    try:
        resume_small(tmp_path / "run", "algo.generations=4", "checkpoint.keep_last=1")
    except EvoconnError:
        pass
    assert (target if target.is_file() else target / "thesis").read_text() == text


def test_a_link_in_place_of_the_lock_is_refused(light, tmp_path):
    run_small(tmp_path / "run", "algo.generations=2")
    (tmp_path / "target").write_text("text")
    (tmp_path / "run" / "lock").symlink_to(tmp_path / "target")
    with pytest.raises(RunDirectoryError, match="cannot write in the run directory"):
        resume_small(tmp_path / "run", "algo.generations=4")
    assert (tmp_path / "target").read_text() == "text"


# Credentials


@pytest.mark.slow
@pytest.mark.parametrize("where", ["environment", "netrc"])
def test_the_key_of_wandb_is_in_no_file_of_a_run(light, tmp_path, monkeypatch, where):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    server = WandbServer()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("HOME", str(tmp_path))
    if where == "environment":
        monkeypatch.setenv("WANDB_API_KEY", KEY)
    else:
        address = server.url.removeprefix("http://")
        (tmp_path / ".netrc").write_text(f"machine {address} login user password {KEY}\n")
        (tmp_path / ".netrc").chmod(0o600)
    run_small(tmp_path / "run", "tracking.wandb=online")
    server.close()
    (lines,) = server.history.values()
    assert len(lines) == 6, "the key was used"
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_the_command_line_is_recorded_without_secrets(monkeypatch):
    monkeypatch.setenv("MY_SERVICE_TOKEN", "hunter2-hunter2")
    monkeypatch.setattr(sys, "argv", ["evoconn", "train", "tracking.entity=hunter2-hunter2", "https://me:pw@host/x"])
    facts = json.dumps(start_facts("1 x cpu"))
    assert "hunter2" not in facts and "me:pw" not in facts
    assert "tracking.entity=[MY_SERVICE_TOKEN]" in facts


def test_a_secret_that_begins_like_another_one_hides_no_part_of_it(monkeypatch):
    monkeypatch.setenv("FIRST_KEY", "hunter22")
    monkeypatch.setenv("SECOND_KEY", "hunter22-and-more")
    assert without_secrets("with hunter22-and-more, not hunter22") == "with [SECOND_KEY], not [FIRST_KEY]"


def test_words_are_no_secrets(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "a")
    assert without_secrets("a banana at http://host/path") == "a banana at http://host/path"
    assert without_secrets("the key abcdefgh", "abcdefgh") == "the key [key]"


# Places


EXPORTS = ("bundle", "csv", "npz", "parquet", "graphml", "nir", "onnx", "sonata", "html", "statistics")


@pytest.mark.slow
def test_no_file_of_a_run_or_an_export_says_where_it_lay(tmp_path, monkeypatch):
    """`test_tracking.py` has the files of W&B."""
    run = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", ["evoconn", "train", "--run-dir", str(run), f"--config={tmp_path}/presets/a.yaml"])
    run_small(run, "tracking.tensorboard=true")
    formats = [word for name in EXPORTS for word in ("--format", name)]
    done = CliRunner().invoke(app, ["export-connectivity", str(run), *formats])
    assert done.exit_code == 0, done.output
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 40
    assert [str(path.relative_to(run)) for path in files if os.fsencode(tmp_path) in path.read_bytes()] == []
    assert json.loads((run / "run.json").read_text())["command"] == "evoconn train --run-dir run --config=a.yaml"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/home/me/runs/a", "a"),
        ("--run-dir=/home/me/my runs/a", "--run-dir=a"),
        ("//home//me/a", "a"),
        ("a=[/home/me/b,/home/me/c]", "a=[b,c]"),
        ("runs/a", "runs/a"),
        ("../a", "../a"),
        ("https://host/a/b", "https://host/a/b"),
        ("1/2", "1/2"),
        ("/", "/"),
    ],
)
def test_absolute_paths_are_cut_to_their_last_part(text, kept):
    assert without_folders(text) == kept
