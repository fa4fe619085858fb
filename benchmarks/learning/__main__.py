"""Runs, reports and keeps studies of learning.

python -m benchmarks.learning run STUDY [--grid-dir DIR] [options of evoconn launch-grid]
python -m benchmarks.learning report STUDY [SOURCE ...] [--out DIR]
python -m benchmarks.learning keep NAME SOURCE ...
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.learning.curves import read_source, together, write_curves
from benchmarks.learning.report import AXES, Study, draw, in_order, read_study, to_markdown
from evoconn_cli.drawing.canvas import save_figure
from evoconn_cli.errors import EvoconnError
from evoconn_cli.output import whole_file

KEPT = Path(__file__).parent / "curves"
"""Directory of the curves that are part of the repository."""

_SOURCE = "run directory, grid directory or file of kept curves; LABEL=SOURCE labels its methods"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", allow_abbrev=False, help="train all runs; further options go to launch-grid")
    run.add_argument("study", type=Path)
    run.add_argument("--grid-dir", type=Path, help="directory of the grid; runs/NAME by default")
    report = commands.add_parser("report", help="write a table and plots")
    report.add_argument("study", type=Path)
    report.add_argument("sources", nargs="*", metavar="SOURCE", help=f"{_SOURCE}; the grid of the study by default")
    report.add_argument("--out", type=Path, help="directory to write; build/learning/STUDY by default")
    keep = commands.add_parser("keep", help="write benchmarks/learning/curves/NAME.json")
    keep.add_argument("name")
    keep.add_argument("sources", nargs="+", metavar="SOURCE", help=_SOURCE)
    options, others = parser.parse_known_args(arguments)
    if others and options.command != "run":
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    try:
        if options.command == "run":
            command = launch_command(read_study(options.study), options.grid_dir, others)
            os.execv(command[0], command)  # so that Ctrl-C reaches the launcher alone
        elif options.command == "report":
            study = read_study(options.study)
            sources = options.sources or [str(grid_dir(study))]
            for file in write_report(study, sources, options.out or Path("build/learning") / study.name):
                print(file)
        else:
            path = KEPT / f"{options.name}.json"
            write_curves(together([curve for source in options.sources for curve in read_source(source)]), path)
            print(path)
    except EvoconnError as error:
        raise SystemExit(f"Error: {error}") from None


def grid_dir(study: Study) -> Path:
    """Returns the default directory of the grid of a study, as in `evoconn launch-grid`."""
    return Path("runs") / study.grid.stem


def launch_command(study: Study, directory: Path | None, options: Sequence[str]) -> list[str]:
    """Returns the command line that trains the runs of a study."""
    launch = [sys.executable, "-m", "evoconn_cli", "launch-grid", str(study.grid)]
    return [*launch, "--grid-dir", str(directory or grid_dir(study)), *options]


def write_report(study: Study, sources: Sequence[str], out: Path) -> list[Path]:
    """Writes report.md, env_steps.png and elapsed.png into the directory `out`, and returns the files.

    Raises:
        EvoconnError: A source cannot be read, has nothing to compare, or the directory cannot be written.
    """
    curves = in_order(study, together([curve for source in sources for curve in read_source(source)]))
    text = to_markdown(study, curves) + "".join(f"\n![{label}]({axis}.png)\n" for axis, label in AXES.items())
    files = [out / "report.md", *(out / f"{axis}.png" for axis in AXES)]
    with whole_file(files[0]) as partial:
        partial.write_text(text, encoding="utf-8")
    for axis, file in zip(AXES, files[1:], strict=True):
        save_figure(draw(study, curves, axis), file)
    return files


if __name__ == "__main__":
    main()
