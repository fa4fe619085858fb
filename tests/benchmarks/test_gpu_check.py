"""The check for a machine with a GPU: its reports, its time limits, and the whole of it on a CPU, small."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from jax.profiler import ProfileData
from paths import ROOT

from benchmarks import gpu_check
from benchmarks.gpu_check import Step, check, run_limited
from benchmarks.gpu_findings import NO_GPU
from benchmarks.gpu_steps import read_kernels

FINDING = '@finding {"what": "a", "ms": 1.5}\n'


def run_check(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", *arguments], cwd=ROOT, capture_output=True, text=True
    )


@pytest.fixture
def outcomes(monkeypatch, tmp_path):
    """Returns the exit code and the report of steps that end with these exit codes (None: cut off)."""

    def run(*exit_codes, output=(FINDING,), seconds=60.0):
        codes = iter(exit_codes)

        def run_nothing(command, seconds, environment, read):
            for line in output:
                read(line)
                # Whatever happens later, what was found is on the disk.
                assert json.loads((tmp_path / "gpu-check.json").read_text())["steps"]
            return next(codes)

        monkeypatch.setattr(gpu_check, "run_limited", run_nothing)
        steps = [Step(f"step-{i}", f"Step {i}", 1.0, "nothing.at_all") for i, _ in enumerate(exit_codes)]
        code = check(steps, tmp_path, tmp_path, seconds, tiny=True)
        return code, json.loads((tmp_path / "gpu-check.json").read_text()), (tmp_path / "gpu-check.md").read_text()

    return run


def test_a_step_that_fails_or_is_cut_off_costs_no_other_and_keeps_its_findings_and_the_end_of_its_output(outcomes):
    output = [FINDING, *(f"line {number}\n" for number in range(100))]
    code, report, page = outcomes(1, None, -9, 0, output=output)
    failed, cut_off, crashed, done = report["steps"]
    assert code == 1
    assert failed["status"].startswith("failed with exit code 1")
    assert cut_off["status"].startswith("cut off after")
    assert crashed["status"].startswith("failed with exit code -9")
    assert done["status"].startswith("done in")
    for entry in report["steps"]:
        assert entry["findings"] == [{"what": "a", "ms": 1.5}]
    for entry in (failed, cut_off, crashed):
        assert entry["output"][-1] == "line 99" and len(entry["output"]) < 100
    assert "output" not in done
    assert page.count("line 99") == 3 and page.count("| a | 1.5 |") == 4


def test_a_part_that_fails_is_no_success(outcomes):
    code, report, page = outcomes(0, output=['@finding {"what": "a", "error": "ValueError: no"}\n', "a traceback\n"])
    assert code == 1
    assert report["steps"][0]["status"].startswith("1 parts failed") and report["steps"][0]["output"] == ["a traceback"]
    assert "ValueError: no" in page


def test_without_a_gpu_no_other_step_is_tried(outcomes, capsys):
    code, report, _ = outcomes(NO_GPU, 0, output=["There is no GPU.\n"])
    assert code == 1 and len(report["steps"]) == 1
    assert "There is no GPU." in capsys.readouterr().err


def test_without_time_nothing_is_started(outcomes):
    code, report, _ = outcomes(0, 0, seconds=0.0)
    assert code == 1 and [entry["status"] for entry in report["steps"]] == ["no time was left"] * 2


def test_findings_that_have_the_same_figures_share_a_table(outcomes):
    other = '@finding {"what": "c", "share": null, "equal": true}\n'
    _, _, page = outcomes(0, output=[FINDING, FINDING, other, '@machine "a card"\n'])
    assert page.count("|  | ms |") == 1 and page.count("|  | share | equal |") == 1
    assert "| c | None | True |" in page and "a card" in page


def test_kernels_are_counted_once_from_the_streams_of_a_gpu():
    names = {1: "fusion_1", 2: "MemcpyD2D", 3: "train_step"}
    kinds = "".join(f'event_metadata {{ key: {i} value {{ id: {i} name: "{name}" }} }}' for i, name in names.items())

    def line(name, *events):
        happened = "".join(f"events {{ metadata_id: {i} duration_ps: {ns * 1000} }}" for i, ns in events)
        return f'lines {{ name: "{name}" {happened} }}'

    streams = line("Stream #7(Compute)", (1, 100), (1, 300)) + line("Stream #9(MemcpyD2D)", (2, 50))
    gpu = f'planes {{ name: "/device:GPU:0" {kinds} {streams} {line("XLA Modules", (3, 9000))} }}'
    host = f'planes {{ name: "/host:CPU" {kinds} {line("python", (3, 9000))} }}'
    kernels = read_kernels(profile_of(gpu + host), on_cpu=False)
    assert {name: tuple(both) for name, both in kernels.items()} == {"fusion_1": (2, 400), "MemcpyD2D": (1, 50)}
    with pytest.raises(RuntimeError, match=r"no streams of a GPU, only .*python"):
        read_kernels(profile_of(host), on_cpu=False)


def profile_of(text):
    return ProfileData.from_serialized_xspace(ProfileData.text_proto_to_serialized_xspace(text))


@pytest.mark.slow
def test_a_command_is_killed_at_its_limit_with_all_that_it_started():
    # As long as one of them is alive, the output has no end.
    lines = []
    assert run_limited(["sh", "-c", "sh -c 'echo begun; sleep 600'"], 1.0, dict(os.environ), lines.append) is None
    assert lines == ["begun\n"]


@pytest.mark.slow
def test_the_whole_check_runs_on_a_cpu(tmp_path):
    done = run_check("--tiny", "--out", str(tmp_path), "--scratch", str(tmp_path))
    report = json.loads((tmp_path / "gpu-check.json").read_text())
    assert done.returncode == 0, done.stdout
    assert all(entry["status"].startswith("done") for entry in report["steps"])
    assert "cpu" in report["machine"]
    found = {entry["step"]: entry["findings"] for entry in report["steps"]}
    figures = {finding["what"]: finding for findings in found.values() for finding in findings}
    assert figures["same seed twice"]["equal_to_the_last_bit"]
    # What is a GPU there is here another number of CPU devices, to which a run is equal.
    assert figures["members' fitness"]["rank_correlation"] == pytest.approx(1.0)
    assert figures["from the same key and weights"] == {
        "what": "from the same key and weights",
        "members_equal": True,
        "sums_equal": True,
    }
    assert figures["update of the probabilities"]["cosine"] == pytest.approx(1.0)
    assert figures["8 members, equality"]["equal"]
    assert {"step, 8 lanes", "kernels, 8 lanes", "physics alone, 8 lanes", "network alone, 8 lanes"} <= figures.keys()
    assert figures["resumed"]["generation_after"] == figures["resumed"]["generation_before"] + 2
    assert figures["checkpoint on a CPU"]["episodes"] == 4
    (learning,) = (finding for finding in found["training"] if "goal" in finding)
    assert learning["reached"] and learning["fitness_mean"] >= learning["goal"]
    assert found["compiling"][0]["compile_s"] > 0


@pytest.mark.slow
def test_a_machine_without_a_gpu_is_told_so(tmp_path):
    done = run_check("--steps", "kernel", "--out", str(tmp_path), "--scratch", str(tmp_path))
    assert done.returncode == 1 and "There is no GPU" in done.stderr


def test_an_unknown_step_is_refused(tmp_path):
    done = run_check("--steps", "kernels", "--out", str(tmp_path), "--scratch", str(tmp_path))
    assert done.returncode == 2 and "Known: engine-hopper" in done.stderr
