"""What a user is told: command lines that cannot work, each with its exit code and what the message has to say.

Errors of files, disks, signals and other processes are with the tests of those.
"""

from __future__ import annotations

import os
import re
import sys

import pytest
from saved_runs import save_run
from whole_runs import evoconn

from evoconn_cli.app import main
from evoconn_cli.config.registry import entries
from evoconn_cli.errors import program

TRAIN, EVALUATE, RENDER, EXPORT = "train --task hopper", "evaluate RUN", "render RUN", "export-connectivity RUN"

# (command line, exit code, part of the message). RUN is a saved run of a probe task, EMPTY an empty directory, FILE a
# file, LOOSE a YAML file with the key `population`, GRID a grid.
TABLE = [
    # names and keys
    ("dance", 2, "No such command 'dance'"),
    ("train --dance", 2, "No such option: --dance"),
    ("train", 2, "no task is given. Add `--task NAME`"),
    ("train --task hoper", 2, "unknown task 'hoper'. Did you mean 'hopper'"),
    ("train --task hopper --algo ecc", 2, "unknown strategy 'ecc'. Did you mean 'ec'"),
    ("train --task hopper --network conn_sn", 2, "unknown network 'conn_sn'. Did you mean 'conn_snn'"),
    ("train --task hopper --algo ec --network gru", 2, "'ec' cannot search the network 'gru'"),
    ("train --config labtop", 2, "unknown preset 'labtop'. Did you mean 'laptop'"),
    (f"{TRAIN} algo.populaton=8", 2, "unknown key 'algo.populaton'. Did you mean 'algo.population'"),
    (f"{TRAIN} algo", 2, "cannot read the override 'algo': write KEY=VALUE"),
    (f"{TRAIN} algo=3", 2, "algo: expected a section with keys, got '3'"),
    ("train hopper", 2, "'hopper' is not KEY=VALUE. Did you mean --task hopper?"),
    ("train laptop", 2, "Did you mean --config laptop?"),
    ("train --task hopper GRU", 2, "Did you mean --network gru?"),
    ("train RUN", 2, "is not KEY=VALUE. Did you mean evoconn resume"),
    (f"{TRAIN} --learning-rate 0.1", 2, "No such option: --learning-rate. Did you mean algo.learning_rate=0.1?"),
    (f"{TRAIN} --lr=0.1", 2, "No such option: --lr. Did you mean algo.learning_rate=0.1?"),
    (f"{TRAIN} --neurons 64", 2, "Did you mean network.num_neurons=64?"),
    ("train --env hopper", 2, "Did you mean --task hopper?"),
    ("launch-grid ec_brax --retries 3", 2, "Did you mean launch.retries=3?"),
    ("evaluate RUN --mass 2", 2, "Did you mean --perturb mass=2?"),
    (f"{TRAIN} --epochs 3", 2, "evoconn train --help lists the options"),
    ("export", 2, "No such command 'export'. Did you mean 'export-connectivity'?"),
    ("video", 2, "Known: train, resume, runs, evaluate, render, export-connectivity, launch-grid."),
    ("train --task Hopper", 2, "unknown task 'Hopper'. Did you mean 'hopper'? Known: acrobot"),
    (f"{TRAIN} lr=0.1", 2, "unknown key 'lr'. Did you mean 'algo.learning_rate'?"),
    # values
    (f"{TRAIN} --population 1.5", 2, "Invalid value for '--population'"),
    (f"{TRAIN} --population 1e4", 2, ": write 10000."),
    ("evaluate runs --episodes -1", 2, "greater than or equal to 0 ╰"),
    (f"{TRAIN} --seed 1_000", 2, "'1_000' is not a number"),
    (f"{TRAIN} algo.population=many", 2, "algo.population=many: must be a whole number, such as 10240."),
    (f"{TRAIN} checkpoint.minutes=long", 2, "checkpoint.minutes=long: must be a number, such as 10.0."),
    ("launch-grid ec_brax launch.retries=x", 2, "launch.retries=x: must be a whole number, such as 2."),
    (f"{TRAIN} --population 1", 2, "algo.population=1: must be at least 2"),
    (f"{TRAIN} --population 4", 2, "algo.population=4: 4 of them are evaluation copies"),
    (f"{TRAIN} --algo es --population 15", 2, "must be even in number"),
    (f"{TRAIN} --seed -1", 2, "seed=-1: must be at least 0"),
    (f"{TRAIN} --generations 0", 2, "algo.generations=0: must be at least 1"),
    (f"{TRAIN} algo.eps=0.5", 2, "algo.eps=0.5: must be less than 0.5"),
    (f"{TRAIN} algo.learning_rate=nan", 2, "algo.learning_rate=nan: must be a finite number"),
    (f"{TRAIN} network.dt_ms=40", 2, "network.dt_ms=40.0: must be at most network.step_ms=16.6"),
    (f"{TRAIN} network.v_threshold=-1", 2, "network.v_threshold=-1.0: must be above network.v_rest=0.0"),
    (f"{TRAIN} rollout.fitness=last", 2, "rollout.fitness: 'last'"),
    (f"{TRAIN} --wandb sometimes", 2, "'sometimes' is not one of 'auto', 'online', 'offline', 'disabled'"),
    (f"{TRAIN} tracking.tensorboard=perhaps", 2, "tracking.tensorboard=perhaps: must be true or false."),
    (f"{TRAIN} --devices 99", 2, "engine.devices=99: this machine has"),
    (f"{TRAIN} --max-time soon", 2, "cannot read the time 'soon': write it as 3h50m"),
    (f"{TRAIN} task.name=${{oc.env:HOME}}", 2, "is a reference, and those are not followed"),
    # files of a configuration
    (f"{TRAIN} --config ./none.yaml", 2, "cannot read the configuration none.yaml: No such file"),
    (f"{TRAIN} --config ./none.json", 2, "cannot read the configuration none.json: No such file"),
    (f"{TRAIN} --config none.json", 2, "is named by its path, such as ./none.json."),
    (f"{TRAIN} --config FILE", 2, "is not a configuration: expected `key: value` lines"),
    ("train --config LOOSE", 2, "unknown key 'population'"),
    # several processes
    (f"{TRAIN} --coordinator here:1", 2, "--num-processes, --process-id is missing"),
    (f"{TRAIN} --coordinator here --num-processes 2 --process-id 0", 2, "--coordinator=here: write it as HOST:PORT"),
    (f"{TRAIN} --coordinator here:1 --num-processes 2 --process-id 2", 2, "--process-id=2: the 2 processes"),
    # run directories
    (f"{TRAIN} --run-dir RUN", 1, "exists already"),
    (f"{TRAIN} --run-dir FILE/run", 1, "is a file, not a directory. Name another --run-dir"),
    (f"{TRAIN} --run-dir a[1]", 1, "a path that contains '['"),
    ("resume", 2, "Missing argument 'RUN_DIR'"),
    ("resume nowhere", 1, "no run directory at nowhere"),
    ("resume EMPTY", 1, "is not a run directory: it has no config.yaml. To see the runs in it: evoconn runs "),
    ("resume RUN --generations 2", 2, "the run has 6 generations already"),
    ("resume RUN --discard-later", 2, "--discard-later goes with --from-step"),
    ("resume RUN --from-step 3 --generations 9", 1, "generation 3 is not saved"),
    ("resume RUN --generations 9 rollout.resets=fresh", 2, "the run has rollout.resets=fixed"),
    # evaluate
    ("evaluate", 2, "Missing argument"),
    ("evaluate nowhere", 1, "nowhere"),
    (f"{EVALUATE} --step 5", 1, "has no generation 5. Saved: 4, 6"),
    (f"{EVALUATE} --step newest", 2, "--step newest: expected"),
    (f"{EVALUATE} --policy Sampled", 2, "'Sampled' is not one of 'deterministic', 'sampled'. Did you mean 'sampled'?"),
    (f"{EVALUATE} --policy random", 2, "'random' is not one of 'deterministic', 'sampled'"),
    (f"{EVALUATE} --episodes -1", 2, "Invalid value for '--episodes'"),
    (f"{EVALUATE} --episodes 20000000000", 1, "the results of 20000000000 episodes take more than"),
    (f"{EVALUATE} --reference hopper=1_0", 2, "cannot read --reference 'hopper=1_0'"),
    (f"{EVALUATE} --episodes 0", 2, "--episodes 0 without --plot leaves nothing to do"),
    (f"{EVALUATE} --perturb noise=1", 2, "unknown perturbation 'noise'. Did you mean 'obs-noise'"),
    (f"{EVALUATE} --perturb obs-noise", 2, "write NAME=VALUE"),
    (f"{EVALUATE} --perturb obs-noise=loud", 2, "'loud' is not a number"),
    (f"{EVALUATE} --perturb lesion-neurons=2", 2, "must be from 0 to 1"),
    (f"{EVALUATE} --perturb mass=0", 2, "must be above 0"),
    (f"{EVALUATE} --perturb mass=1e-46", 2, "must be at least 1.175494e-38"),
    (f"{EVALUATE} --perturb obs-noise=1e39", 2, "must be between -3.402823e+38"),
    (f"{EVALUATE} --perturb mass=1 --perturb mass=2", 2, "--perturb mass is given twice"),
    (f"{EVALUATE} --perturb mass=1,2 --perturb gravity=1,2", 2, "only one perturbation can have several values"),
    (f"{EVALUATE} --perturb gravity=2", 2, "has no physics that could be perturbed"),
    (f"{EVALUATE} --curve curve.png", 2, "--curve draws a sweep"),
    (f"{EVALUATE} --plot curve.txt", 2, "--plot curve.txt: unknown format '.txt'"),
    (f"{EVALUATE} --plot FILE/curve.png", 2, "is a file, not a directory"),
    (f"{EVALUATE} --plot curve.png --plot-x steps", 2, "'steps' is not one of 'generations', 'env-steps', 'time'"),
    (f"{EVALUATE} --reference hopper", 2, "write TASK=RETURN"),
    (f"{EVALUATE} --reference hopper=0", 2, "must be a number other than 0"),
    (f"{EVALUATE} --energy 7nm", 2, "'7nm'"),
    (f"{EVALUATE} --csv EMPTY", 2, "that is a directory. Name a file"),
    # render
    (RENDER, 2, "has no body that could be drawn"),
    (f"{RENDER} --out walk.avi", 2, "--out walk.avi: the name has to end in one of .mp4, .gif, .html, .png"),
    (f"{RENDER} --policy random", 2, "'random' is not one of 'deterministic', 'sampled'"),
    (f"{RENDER} --camera back", 2, "'back' is not one of 'track', 'side', 'front'"),
    (f"{RENDER} --size large", 2, "--size large: expected WIDTHxHEIGHT"),
    (f"{RENDER} --size 641x481", 2, "an mp4 needs even numbers. Try 642x482"),
    (f"{RENDER} --size 64x64", 2, "the plots need"),
    (f"{RENDER} --fps 1000", 2, "--fps 1000: expected 1 to 240"),
    (f"{RENDER} --speed 0", 2, "--speed 0: expected 0.01 to 100"),
    (f"{RENDER} --out walk.html --fps 30", 2, "--fps has no meaning for walk.html"),
    # export-connectivity
    (f"{EXPORT} --format jpeg", 2, "unknown format 'jpeg'"),
    (f"{EXPORT} --policy random", 2, "'random' is not one of 'deterministic', 'sampled'"),
    (f"{EXPORT} --nir-tau exact", 2, "'exact' is not one of 'continuous', 'euler'"),
    (f"{EXPORT} --sort degre", 2, "'degre' is not one of 'degree', 'community', 'none'. Did you mean 'degree'?"),
    (f"{EXPORT} --step 5", 1, "has no generation 5"),
    ("export-connectivity nowhere", 1, "nowhere"),
    (f"{EXPORT} --out FILE", 2, "exists already. Name another --out, or replace it with --force"),
    (f"{EXPORT} --out FILE/bundle", 2, "is a file, not a directory"),
    # launch-grid
    ("launch-grid ec_brx", 2, "Did you mean 'ec_brax'"),
    ("launch-grid ./none.yaml", 2, "none.yaml"),
    ("launch-grid LOOSE", 2, "unknown key of loose.yaml: 'population'"),
    ("launch-grid ec_brax --watch", 2, "--watch goes with --status"),
    ("launch-grid ec_brax --status --dry-run", 2, "ask for one at a time"),
    ("launch-grid ec_brax --on mars --dry-run", 2, "mars"),
    ("launch-grid ec_brax --on slurm --devices 0 --dry-run", 2, "--devices goes with --on local"),
    ("launch-grid ec_brax launch.retrys=1 --dry-run", 2, "launch.retrys"),
    ("launch-grid ec_brax seeds=1 --dry-run", 2, "only keys of launch and search can be given here"),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("places")
    save_run(folder / "run")
    (folder / "empty").mkdir()
    (folder / "file").write_text("text")
    (folder / "loose.yaml").write_text("population: 8\n")
    return {"RUN": folder / "run", "EMPTY": folder / "empty", "FILE": folder / "file", "LOOSE": folder / "loose.yaml"}


@pytest.mark.parametrize(("line", "exit_code", "part"), TABLE, ids=lambda value: str(value).replace(" ", "_"))
def test_an_error_says_what_is_wrong_and_ends_with_its_code(
    monkeypatch, capsys, tmp_path, places, line, exit_code, part
):
    monkeypatch.chdir(tmp_path)
    for name, path in places.items():
        line = re.sub(rf"\b{name}\b", str(path), line)
    monkeypatch.setattr(sys, "argv", ["evoconn", *line.split()])
    with pytest.raises(SystemExit) as end:
        main()
    shown = re.sub(r"[\s│]+", " ", capsys.readouterr().err)  # without the frame of Typer's own errors
    assert part in shown
    assert end.value.code == exit_code
    assert "Traceback" not in shown
    assert not any(tmp_path.iterdir()), "something was written"


def test_a_grid_that_is_not_here_is_told_from_one_that_waits(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for made in (False, True):
        if made:
            (tmp_path / "runs" / "ec_brax").mkdir(parents=True)
        monkeypatch.setattr(sys, "argv", ["evoconn", "launch-grid", "ec_brax", "--status"])
        with pytest.raises(SystemExit):
            main()
        assert ("name it with --grid-dir" in capsys.readouterr().err) == (not made)


@pytest.mark.slow
def test_what_slurm_lacks_is_named(tmp_path):
    variables = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    process = evoconn("train", "--task", "hopper", "--distributed", cwd=tmp_path, env={**os.environ, **variables})
    assert "the environment of SLURM lacks SLURM_STEP_NODELIST, which srun sets" in process.communicate(timeout=60)[0]
    assert process.returncode == 2


@pytest.mark.slow
def test_a_name_that_the_locale_cannot_hold_is_not_called_broken(tmp_path):
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    arguments = ["train", "--config", "smoke", "--run-dir", "ünï"]
    process = evoconn(*arguments, cwd=tmp_path, env={**os.environ, **locale})
    assert "this one is UTF-8. Set LC_ALL=C.UTF-8 or PYTHONUTF8=1" in process.communicate(timeout=60)[0]
    assert process.returncode == 1 and not any(tmp_path.iterdir())


@pytest.mark.parametrize("line", ["train", "train --task hoper", "train --task Hopper"])
def test_tasks_that_help_hides_are_not_listed(monkeypatch, capsys, line):
    monkeypatch.setattr(sys, "argv", ["evoconn", *line.split()])
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr().err
    assert "walker2d" in shown and not any(entry.name in shown for entry in entries("task") if entry.hidden)


def test_a_command_to_type_next_has_the_path_of_a_program_that_the_shell_would_not_find(monkeypatch, tmp_path):
    path = tmp_path / ".venv" / "bin" / "evoconn"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh")
    path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [".venv/bin/evoconn", "train"])
    assert program() == ".venv/bin/evoconn"
    monkeypatch.setenv("PATH", str(path.parent))
    assert program() == "evoconn"
    monkeypatch.setattr(sys, "argv", ["/some/where/__main__.py"])
    assert program() == "evoconn"


@pytest.mark.slow
def test_without_a_cluster_distributed_says_what_to_name(tmp_path):
    process = evoconn("train", "--task", "hopper", "--distributed", cwd=tmp_path)  # before JAX runs in a process
    assert "no cluster was found in the environment" in process.communicate(timeout=60)[0]
    assert process.returncode == 2
