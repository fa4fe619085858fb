"""What `--help`, `--version` and the shell's TAB key show."""

from __future__ import annotations

import inspect
import re
import shlex
import sys

import pytest
from command_lines import COMMANDS as EVERY
from command_lines import check_command_line
from typer.testing import CliRunner

from evoconn_cli import __version__
from evoconn_cli.app import app
from evoconn_cli.config.loading import load_config
from evoconn_cli.config.registry import names, preset_names

BRAX_V1_TASKS = names("task", hidden=False)

COMMANDS = [name for name, command in EVERY.items() if not command.hidden]


def help_of(*command: str, columns: int) -> str:
    done = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": str(columns), "TERMINAL_WIDTH": str(columns)})
    assert done.exit_code == 0, done.output
    return done.output


def examples_of(command: str) -> list[str]:
    text = inspect.cleandoc(EVERY[command].help)
    return re.findall(r"^\s*(evoconn .+)$", text, re.MULTILINE)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
@pytest.mark.parametrize("columns", [60, 80])
def test_help_fits_and_nothing_is_cut_off_at_80_columns(monkeypatch, command, columns):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", columns)
    shown = help_of(*command, columns=columns)
    assert max(map(len, shown.splitlines())) <= columns
    assert columns < 80 or "…" not in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_is_a_command_line_that_parses(command):
    examples = examples_of(command)
    assert len(examples) >= 2
    for example in examples:
        program, name, *arguments = shlex.split(example)
        assert (program, name) == ("evoconn", command)
        check_command_line(name, arguments)


def test_training_lists_tasks_strategies_networks_and_presets():
    shown = re.sub(r"[\s│]+", " ", help_of("train", columns=80))
    for name in [*BRAX_V1_TASKS, *names("strategy"), *names("network"), *preset_names()]:
        assert re.search(rf"\b{name}\b", shown), name


def test_help_shows_the_defaults_that_the_schema_has():
    defaults = load_config(None, ["task.name=hopper"])
    shown = re.sub(r"[\s│]+", " ", help_of("train", columns=80))
    for option, value in {
        "--seed": defaults.seed,
        "--population": defaults.algo.population,
        "--generations": defaults.algo.generations,
    }.items():
        assert re.search(rf"{option} (?:(?!--).)*\[default: \({value}\)\]", shown), option


def test_the_version_is_one_line_and_the_versions_name_jax_brax_and_the_devices():
    assert CliRunner().invoke(app, ["--version"]).output == f"evoconn {__version__}\n"
    shown = dict(line.split(maxsplit=1) for line in CliRunner().invoke(app, ["--versions"]).output.splitlines())
    import jax

    assert shown["evoconn"] == __version__
    assert shown["jax"] == jax.__version__
    assert shown["brax"] == "0.1.2"
    assert shown["python"] == sys.version.split()[0]
    assert re.fullmatch(r"\d+ x cpu", shown["devices"])


# The TAB key


@pytest.fixture
def offered(monkeypatch, tmp_path):
    """Returns what the shell offers for the last word of a command line, in a directory with two runs."""
    for name in ("runs/hopper-1", "runs/walker-1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text("{}")
        (tmp_path / name / "config.yaml").touch()
        for generation in (20, 40):
            (tmp_path / name / "checkpoints" / str(generation)).mkdir(parents=True)
    (tmp_path / "runs" / "notes").mkdir()
    monkeypatch.chdir(tmp_path)

    def complete(line: str) -> list[str]:
        words = line.split(" ")
        environment = {"_EVOCONN_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        return CliRunner().invoke(app, [], prog_name="evoconn", env=environment).output.split()

    return complete


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("evoconn tr", ["train"]),
        ("evoconn train --task hu", ["humanoid", "humanoidstandup"]),
        ("evoconn train --algo ", names("strategy")),
        ("evoconn train --network d", ["dense_snn"]),
        ("evoconn train --config p", ["paper"]),
        ("evoconn resume ", ["latest", "runs/hopper-1", "runs/walker-1"]),
        ("evoconn resume ru", ["runs/hopper-1", "runs/walker-1"]),
        ("evoconn evaluate runs/hopper-1 runs/w", ["runs/walker-1"]),
        ("evoconn render runs/h", ["runs/hopper-1"]),
        ("evoconn render la", ["latest"]),
        ("evoconn render latest --step 2", ["20"]),
        ("evoconn runs --sort s", ["strategy", "status", "size"]),
        ("evoconn render nowhere/", []),
        ("evoconn render --camera s", ["side"]),
        ("evoconn evaluate --policy ", ["deterministic", "sampled"]),
        ("evoconn export-connectivity --format bundle,s", ["bundle,sonata", "bundle,statistics", "bundle,svg"]),
        ("evoconn launch-grid e", ["ec_brax", "ec_search"]),
        ("evoconn launch-grid --on s", ["slurm"]),
        ("evoconn train --wandb off", ["offline"]),
        ("evoconn train --algo es --network ", ["lstm", "gru", "mlp", "dense_snn"]),
        ("evoconn train --network gru --algo ", ["es"]),
        ("evoconn train algo.l", ["algo.learning_rate="]),
        ("evoconn train --algo es algo.s", ["algo.shaping=", "algo.shaping_generations=", "algo.sigma="]),
        ("evoconn train --algo ec algo.s", ["algo.shaping=", "algo.shaping_generations="]),
        ("evoconn train rollout.fitness=", ["rollout.fitness=first_episode", "rollout.fitness=until_slowest"]),
        ("evoconn train rollout.fitness = u", ["until_slowest"]),  # as bash splits it
        ("evoconn train rollout.fitness =", ["first_episode", "until_slowest"]),
        ("evoconn train tracking.tensorboard=t", ["tracking.tensorboard=true"]),
        ("evoconn train s", ["seed="]),
        ("evoconn train ro", ["rollout."]),
        ("evoconn train hopper=", []),
        ("evoconn resume runs/hopper-1 checkpoint.ev", ["checkpoint.every="]),
        ("evoconn resume runs/hopper-1 --from-step ", ["0", "20", "40"]),
        ("evoconn evaluate runs/hopper-1 --step ", ["latest", "best", "all", "20", "40"]),
        ("evoconn evaluate runs/hopper-1 --step 20,4", ["20,40"]),
        ("evoconn evaluate nowhere --step b", ["best"]),
        ("evoconn render runs/hopper-1/checkpoints --step 2", ["20"]),
        ("evoconn export-connectivity runs/walker-1 --step 4", ["40"]),
        ("evoconn evaluate --perturb g", ["gravity="]),
        ("evoconn launch-grid ec_brax launch.ret", ["launch.retries=", "launch.retry_pause="]),
        ("evoconn launch-grid ec_search search.tr", ["search.trials="]),
    ],
)
def test_the_shell_offers_names_and_runs(offered, line, expected):
    assert offered(line) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_calls_evoconn(monkeypatch, shell):
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)
    shown = CliRunner().invoke(app, ["--show-completion"], prog_name="evoconn").output
    assert f"_EVOCONN_COMPLETE=complete_{shell}" in shown
