"""Checks whether evoconn works on a GPU, and how fast: at most 8 minutes, on a machine with one NVIDIA GPU.

    python -m benchmarks.gpu_check [--out build/gpu-check] [--minutes 8] [--steps kernel speed-hopper ...]

Each step is a separate process with a time limit, so one that hangs or crashes does not affect the others. Findings are
written to `gpu-check.json` and `gpu-check.md` at once. `--tiny` tries the check itself, on a CPU.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu_findings import NO_GPU, read_finding
from evoconn_cli.output import replace_text

_FOLDER = Path("build/gpu-check")
_SPARE = 10.0
"""Time that the last step leaves for the end of the check [s]."""

_TAIL_LINES = 30
"""Lines of output that are kept of a step that does not end well."""


class Step(NamedTuple):
    """A step of the check."""

    name: str
    title: str
    seconds: float  # limit
    function: str  # `module.name`, called with whether sizes are tiny, the limit and `arguments`
    arguments: tuple[str, ...] = ()


def make_steps(tiny: bool) -> list[Step]:
    """Returns the steps, the most valuable ones first."""
    compared = {"probe_sign": 80.0} if tiny else {"hopper": 80.0, "humanoid": 130.0}
    measured = ("inverted_pendulum",) if tiny else ("humanoid", "hopper", "walker2d")
    engines = [
        Step(f"engine-{task}", f"GPU and CPU compared: {task}", seconds, "gpu_steps.check_engine", (task,))
        for task, seconds in compared.items()
    ]
    speeds = [
        Step(f"speed-{task}", f"Speed of a block: {task}", 60.0, "gpu_steps.check_speed", (task,)) for task in measured
    ]
    return [
        *engines,
        Step("kernel", "The GPU kernel and XLA's program", 60.0, "gpu_steps.check_kernel"),
        *speeds[:2],
        Step("training", "Training, resuming, opening on a CPU", 150.0, "gpu_training.check_training"),
        *speeds[2:],
        Step("compiling", "Compiling with a filled cache", 40.0, "gpu_steps.check_compiling", tuple(compared)),
        Step("generations", "Whole generations of untrained members", 60.0, "gpu_steps.check_generations"),
        Step("large-training", "Training of a large task in the time left", 180.0, "gpu_training.check_large_training"),
    ]


def main() -> None:
    """Parses the arguments and runs the steps, or the one step that this process is for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=_FOLDER, help=f"folder of the two reports, {_FOLDER} by default")
    parser.add_argument("--scratch", type=Path, default=_FOLDER, help="folder of runs and compiled programs, likewise")
    parser.add_argument("--minutes", type=float, default=8.0, help="time for all steps")
    parser.add_argument("--steps", nargs="+", metavar="STEP", help="only these steps")
    parser.add_argument("--tiny", action="store_true", help="on a CPU, and small")
    parser.add_argument("--step", nargs=2, metavar=("STEP", "SECONDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    steps = {step.name: step for step in make_steps(options.tiny)}
    if options.step:
        name, seconds = options.step
        module, function = steps[name].function.split(".")
        call = getattr(importlib.import_module(f"benchmarks.{module}"), function)
        call(options.tiny, float(seconds), *steps[name].arguments)
        return
    unknown = set(options.steps or []) - steps.keys()
    if unknown:
        parser.error(f"unknown steps: {', '.join(sorted(unknown))}. Known: {', '.join(steps)}.")
    patience = 5.0 if options.tiny else 1.0  # no GPU is held, and the machine may be a busy one
    chosen = [
        step._replace(seconds=step.seconds * patience)
        for name, step in steps.items()
        if not options.steps or name in options.steps
    ]
    sys.exit(check(chosen, options.out, options.scratch, options.minutes * 60 * patience, options.tiny))


def check(steps: list[Step], out: Path, scratch: Path, seconds: float, tiny: bool) -> int:
    """Runs the steps and writes the reports after each finding; returns the exit code.

    Args:
        steps: Steps in their order.
        out: Folder of the reports.
        scratch: Folder of runs, and of compiled programs, which a second check finds again.
        seconds: Time for all steps.
        tiny: Whether the sizes are tiny.
    """
    end = time.monotonic() + seconds
    temporary = (scratch / "tmp").absolute()
    for folder in (out, temporary):
        folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(temporary), "WANDB_MODE": "disabled", "PYTHONUNBUFFERED": "1"}
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str((scratch / "cache").absolute()))
    if os.environ.get("JAX_PLATFORMS") and "cpu" not in os.environ["JAX_PLATFORMS"]:
        environment["JAX_PLATFORMS"] += ",cpu"  # what the GPU is compared with
    report: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.gpu_check", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": None,
        "steps": [],
    }

    def write() -> None:
        replace_text(out / "gpu-check.json", json.dumps(report, indent=2) + "\n")
        replace_text(out / "gpu-check.md", to_markdown(report))

    for step in steps:
        left = end - time.monotonic() - _SPARE
        entry: dict[str, Any] = {"step": step.name, "title": step.title, "status": "no time was left", "findings": []}
        report["steps"].append(entry)
        write()
        if left > _SPARE:
            print(f"{step.name} ...", flush=True)
            entry["status"] = "under way"
            exit_code = _run(step, min(step.seconds, left), tiny, environment, report, write)
            write()
            if exit_code == NO_GPU:
                print("\n".join(entry["output"]), file=sys.stderr)
                return 1
        print(f"{step.name}: {entry['status']}", flush=True)
    print(f"\n{to_markdown(report)}\nWritten: {out / 'gpu-check.md'}, {out / 'gpu-check.json'}")
    return 0 if all(entry["status"].startswith("done") for entry in report["steps"]) else 1


def _run(
    step: Step,
    seconds: float,
    tiny: bool,
    environment: dict[str, str],
    report: dict[str, Any],
    write: Callable[[], None],
) -> int:
    """Runs a step, keeps what it finds in the last entry of `report`, and returns its exit code."""
    begun, entry = time.monotonic(), report["steps"][-1]
    tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)

    def read(line: str) -> None:
        if not read_finding(line, entry["findings"].append, lambda machine: report.update(machine=machine)):
            tail.append(line.rstrip("\n"))
            return
        entry["status"] = f"under way for {time.monotonic() - begun:.0f} s"
        write()

    command = ["--step", step.name, str(seconds), *(["--tiny"] if tiny else [])]
    exit_code = run_limited([sys.executable, "-m", "benchmarks.gpu_check", *command], seconds, environment, read)
    took = f"{time.monotonic() - begun:.0f} s"
    failed = sum("error" in finding for finding in entry["findings"])
    if exit_code is None:
        entry["status"] = f"cut off after {took}"
    elif exit_code:
        entry["status"] = f"failed with exit code {exit_code} after {took}"
    else:
        entry["status"] = f"{failed} parts failed, in {took}" if failed else f"done in {took}"
    if exit_code != 0 or failed:
        entry["output"] = list(tail)
    return exit_code or 0


def run_limited(
    command: list[str], seconds: float, environment: dict[str, str], read: Callable[[str], None]
) -> int | None:
    """Returns the exit code of a command, None where its time was over and it was killed with all that it started.

    Args:
        command: Program and arguments.
        seconds: Time limit.
        environment: Environment of the command.
        read: Is called with each line of its output.
    """
    cut_off = threading.Event()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    ) as process:

        def kill() -> None:
            cut_off.set()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, kill)
        timer.start()
        try:
            for line in process.stdout or ():
                read(line)
        except BaseException:
            kill()
            raise
        finally:
            timer.cancel()
    return None if cut_off.is_set() else process.returncode


def to_markdown(report: dict[str, Any]) -> str:
    """Returns the report as a page: a table for all findings that follow each other and have the same figures."""
    lines = ["# GPU check", "", f"`{report['command']}`, {report['date']}, {report['machine']}", ""]
    for entry in report["steps"]:
        lines += [f"## {entry['title']}", "", f"`{entry['step']}`: {entry['status']}", ""]
        for names, findings in itertools.groupby(entry["findings"], key=tuple):
            lines += [f"| {' | '.join(['', *names[1:]])} |", "|---|" + "---:|" * (len(names) - 1)]
            lines += [f"| {' | '.join(_cell(value) for value in finding.values())} |" for finding in findings]
            lines.append("")
        if entry.get("output"):
            lines += ["The end of its output:", "", "```", *entry["output"], "```", ""]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


if __name__ == "__main__":
    main()
