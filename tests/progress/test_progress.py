from __future__ import annotations

import io
import math
import os
import re
import sys
from types import SimpleNamespace

import pytest
from fake_nvml import FakeNvml
from rich.console import Console

from evoconn_cli.progress.chart import Curve, chart, resample, sparkline, stretched
from evoconn_cli.progress.display import (
    PlainProgress,
    RunHeader,
    choose_progress,
    make_progress,
    print_summary,
    summary_rows,
)
from evoconn_cli.progress.formatting import duration, fitness, number
from evoconn_cli.progress.history import Compiled, History, best_evaluation
from evoconn_cli.progress.live import LiveProgress
from evoconn_cli.progress.usage import Usage

HEADER = RunHeader(
    task="hopper",
    network="conn_snn, 256 neurons",
    strategy="ec",
    num_parameters=72_448,
    population=10_240,
    evaluation_copies=128,
    devices="2 x cpu",
    run_dir="runs/hopper [ec] 0",
    generations=1000,
)
KEYS = (
    "generation fitness_mean fitness_std fitness_best eval_fitness env_steps env_steps_simulated "
    "episode_length_mean seconds elapsed spikes_per_ms density entropy saturated update_snr failed_members"
).split()


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Screen(io.TextIOWrapper):
    """A file of one encoding that remembers what was written."""

    def __init__(self, encoding="utf-8"):
        super().__init__(io.BytesIO(), encoding=encoding)

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)


def metrics_at(generation: int, **given):
    line = dict.fromkeys(KEYS)
    line.update(
        generation=generation,
        fitness_mean=1234.56,
        fitness_best=23456.7,
        eval_fitness=100.0 * generation,
        env_steps=1_000_000 * generation,
        env_steps_simulated=1_250_000 * generation,
        seconds=2.0,
        elapsed=2.0 * generation,
        spikes_per_ms=0.01234,
        density=0.498,
        entropy=0.912,
    )
    line.update(given)
    return line


def terminal(width: int, *, encoding="utf-8", height=24) -> tuple[Console, Screen]:
    screen = Screen(encoding)
    console = Console(
        file=screen,
        force_terminal=True,
        width=width,
        height=height,
        color_system=None,
        _environ={"TERM": "xterm-256color"},
    )
    return console, screen


def last_frame(console: Console, screen: Screen) -> list[str]:
    """Returns the lines of the screen from the last panel on, without control sequences."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.text()).replace("\r", "")
    lines = text.rstrip("\n").splitlines()
    start = max(i for i, line in enumerate(lines) if "generation" in line and " of " in line)
    return lines[start:]


def drawn(width: int, lines, *, encoding="utf-8", height=24, header=HEADER) -> tuple[list[str], str]:
    console, screen = terminal(width, encoding=encoding, height=height)
    progress = make_progress(console, clock=Clock())
    assert isinstance(progress, LiveProgress)
    progress.start(header)
    for line in lines:
        progress.generation(line)
    progress.stop()
    return last_frame(console, screen), screen.text()


# Numbers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (math.inf, "–"),
        (-1, "0.0 s"),
        (3.21, "3.2 s"),
        (9.97, "10 s"),
        (59.6, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (86399, "23 h 59 min"),
        (86400 * 2 + 3600 * 4, "2 d 04 h"),
    ],
)
def test_durations_have_two_units_and_carry_over(seconds, text):
    assert duration(seconds) == text


def test_numbers_have_thousands_separators_and_missing_ones_are_a_dash():
    assert number(1234567.891, 2) == "1,234,567.89"
    assert fitness(99_999.94) == "99,999.9"
    assert fitness(99_999.96) == "100,000"
    assert fitness(-1234.5) == "-1,234.5"
    assert fitness(None) == "–"
    assert fitness(math.nan) == "nan"


# The curve


def test_a_short_history_keeps_one_column_a_value():
    assert resample([1, 2, 3], 10) == [1, 2, 3]


def test_a_long_history_is_the_means_of_equal_stretches():
    assert resample(list(range(100)), 4) == [12.0, 37.0, 62.0, 87.0]


def test_every_value_counts_once_whatever_the_width():
    values = [float(v * v % 17) for v in range(103)]
    for width in (1, 7, 50, 102):
        lengths = [(i + 1) * 103 // width - i * 103 // width for i in range(width)]
        means = resample(values, width)
        assert sum(m * n for m, n in zip(means, lengths, strict=True)) == pytest.approx(sum(values))


def test_values_that_are_missing_or_not_finite_do_not_count():
    assert resample([1.0, None, math.nan, 3.0, None, math.inf], 3) == [1.0, 3.0, None]


def test_the_curve_spans_all_marks_and_fills_its_width():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], width=10) == ["▁▂▃▄▅▆▇█  "]
    assert sparkline([0, 1], width=2, height=2) == [" █", "▁█"]
    assert sparkline([5.0, None, 5.0], width=3) == ["▅ ▅"]
    assert sparkline([], width=3) == ["   "]
    assert sparkline([0, 1, 2, 3], width=4, ascii_only=True) == [".:|#"]


# The pace


def test_the_pace_is_that_of_recent_generations():
    history = History()
    for generation in range(1, 101):
        history.add(metrics_at(generation, seconds=100.0 if generation <= 50 else 2.0))
    assert history.steps_per_second() == pytest.approx(500_000)
    assert history.seconds_left(1000) == pytest.approx(900 * 2.0)


def test_one_slow_generation_does_not_move_the_time_left():
    history = History()
    for generation in range(1, 21):
        history.add(metrics_at(generation, seconds=600.0 if generation == 1 else 3.0))
    assert history.seconds_left(30) == pytest.approx(10 * 3.0)


def test_after_a_resume_the_pace_starts_anew_and_the_curve_does_not():
    history = History([metrics_at(g, seconds=50.0) for g in range(1, 11)])
    assert history.steps_per_second() is None
    assert history.seconds_left(20) is None
    history.add(metrics_at(11, seconds=4.0))
    assert history.steps_per_second() == pytest.approx(250_000)
    assert history.seconds_left(20) == pytest.approx(9 * 4.0)
    assert len(history.evaluations) == 11


def test_as_long_as_episodes_get_longer_the_time_left_is_that_of_full_ones_at_most():
    """100 members, up to 1,000 steps each, at 10,000 steps/s: 10 s per full generation."""
    history = History(most_steps=100_000)
    for generation in range(1, 4):
        history.add(metrics_at(generation, seconds=1.0, env_steps=10_000 * generation))
    left = history.time_left(23)
    assert left is not None and left.at_most and left.seconds == pytest.approx(20 * 10.0)
    assert left.text() == "< 3 min 20 s" and left.text(passed=20.0) == "< 3 min 00 s"
    history = History(most_steps=100_000)
    for generation in range(1, 4):
        history.add(metrics_at(generation, seconds=9.0, env_steps=90_000 * generation))
    left = history.time_left(23)
    assert left is not None and not left.at_most and left.seconds == pytest.approx(20 * 9.0)


def test_a_run_that_may_end_before_its_last_generation_has_at_most_that_time_left():
    """A generation has 10,000 steps and takes 1 s."""
    lines = [metrics_at(g, seconds=1.0, env_steps=10_000 * g) for g in range(1, 4)]

    def left(**given):
        history = History(**given)
        for line in lines:
            history.add(line)
        return history.time_left(103)

    assert left() == (100.0, False)
    assert left(may_end_early=True) == (100.0, True)
    assert left(max_env_steps=80_000) == (5.0, False)
    assert left(max_env_steps=80_000, may_end_early=True) == (5.0, True)
    assert left(max_env_steps=20_000) == (0.0, False)
    assert left(max_env_steps=5_000_000, most_steps=100_000) == (497.0, False)
    assert left(max_env_steps=50_000_000, most_steps=100_000) == (1000.0, True)


def test_a_resume_without_history_has_no_pace_before_its_second_generation():
    history = History()
    history.add(metrics_at(500))
    assert history.steps_per_second() is None
    history.add(metrics_at(501))
    assert history.steps_per_second() == pytest.approx(500_000)


def test_the_best_evaluation_is_the_newest_of_equals_as_the_best_checkpoint_is():
    lines = [metrics_at(g, eval_fitness=f) for g, f in enumerate([None, 3.0, math.nan, 9.0, 9.0, 1.0], 1)]
    assert best_evaluation(lines) == (9.0, 5)
    assert best_evaluation(lines[:1]) is None


# The live display


@pytest.mark.parametrize("width", [40, 50, 60, 80, 120, 200])
def test_the_panel_fits_and_shows_all_figures(width):
    frame, _ = drawn(width, [metrics_at(g) for g in range(1, 251)], height=30)
    text = "\n".join(frame)
    assert {len(line) for line in frame} == {min(width - 2, 160)}
    for shown in ("generation 250 of 1,000", "25 %", "25,000.0", "23,456.7", "1,234.6", "500,000", "12.3"):
        assert shown in text
    for label in ("evaluation", "best now", "mean now", "entropy", "density", "steps/s", "time left"):
        assert label in text
    assert "25 min 00 s" in text  # 750 generations of 2 s
    assert "at generation 250" in text
    assert "█" in text and "…" not in text


def test_a_low_terminal_gets_a_low_curve():
    lines = [metrics_at(g) for g in range(1, 20)]
    assert len(drawn(80, lines, height=30)[0]) - len(drawn(80, lines, height=16)[0]) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_high_terminal_gets_a_chart_of_evaluation_mean_and_best(width, encoding):
    lines = [metrics_at(g, fitness_best=200.0 * g, fitness_mean=50.0 * g) for g in range(1, 251)]
    frame, _ = drawn(width, lines, height=50, encoding=encoding)
    text = "\n".join(frame)
    assert {len(line) for line in frame} == {min(width - 2, 160)}
    marks = ("e ", "m ", "b ") if encoding == "ascii" else ("", "", "")
    assert "  ".join(f"{m}{name}" for m, name in zip(marks, ("evaluation", "mean", "best"), strict=True)) in text
    assert re.search(r" (49|50),\d{3}\.\d \|", frame[-16]) and re.search(r" \d{2,3}\.\d \|", frame[-3])
    assert re.search(r" 1 +generation +250 ", frame[-2])
    assert "time: generations" in text and "MB" in text


def test_a_chart_joins_its_points_and_shows_the_first_of_curves_at_one_place():
    curves = [Curve("a", [0.0, 0.0, None, 3.0], "", "a"), Curve("b", [0.0, 3.0, math.nan, 3.0], "", "b")]
    lines = [line.plain for line in chart(curves, width=40, height=4, span=(1, 4), ascii_only=True)]
    assert [line[11:15] for line in lines[:4]] == [" b a", " b  ", " b  ", "aa  "]
    assert [line[:11].strip() for line in lines[:4]] == ["3.0 |", "2.0 |", "|", "0.0 |"]
    dots = chart([Curve("a", [0.0, 7.0], "", "a")], width=40, height=2, span=(1, 2))
    assert [line.plain[11] for line in dots[:2]] == ["\u28b8", "\u2878"]


def test_a_short_history_fills_the_chart():
    assert stretched([1.0, 2.0], 4) == [1.0, 1.0, 2.0, 2.0]
    assert stretched([1.0, 3.0, 5.0, 7.0], 2) == [2.0, 6.0]


def test_within_a_long_generation_an_estimate_is_shown_and_marked_as_one():
    clock = Clock()
    console, screen = terminal(80)
    progress = LiveProgress(console, clock)
    progress.start(HEADER)
    progress.generation(metrics_at(1, seconds=60.0))
    assert progress._live is not None
    for passed, shown in ((15.0, "generation 2: ~ 25 %"), (300.0, "generation 2: ~ 99 %")):
        clock.now += passed
        progress._live.refresh()
        assert shown in screen.text()
    progress.stop()
    assert "~" not in "\n".join(last_frame(console, screen))
    assert "~" not in drawn(80, [metrics_at(1, seconds=0.5)])[1]


def test_the_time_spent_on_saving_is_told_from_that_of_generations():
    clock = Clock()
    console, screen = terminal(120, height=50)
    progress = LiveProgress(console, clock)
    progress.start(HEADER)
    progress.compiled(Compiled(9.0, from_cache=False))
    for generation in (1, 2):
        clock.now += 4.0
        progress.generation(metrics_at(generation, seconds=4.0))
    clock.now += 2.0
    progress.saved(1.0)
    clock.now += 50.0  # of the next generation
    progress.stop()
    assert "time: generations 80 %, saving 10 %, other 10 %" in "\n".join(last_frame(console, screen))


def test_cores_and_memory_of_this_process_are_measured():
    clock = Clock()
    usage = Usage(clock)
    assert re.fullmatch(r"[\d,]+ MB", usage.text())
    clock.now += 2.0
    assert re.fullmatch(r"\d+\.\d cores, [\d,]+ MB", usage.text())


def test_the_gpus_of_this_process_are_shown():
    clock, nvml = Clock(), FakeNvml(3)
    nvml.busy, nvml.memory = {"GPU-0": 10, "GPU-1": 80, "GPU-2": 90}, dict.fromkeys(["GPU-1", "GPU-2"], 4 * 10**9)
    nvml.pids = {"GPU-0": [1], "GPU-1": [1, os.getpid()], "GPU-2": [os.getpid()]}
    usage = Usage(clock, nvml)
    assert usage.text().endswith(" MB, 2 GPUs 85 %, 8,000 MB")
    nvml.pids = {"GPU-2": [os.getpid()]}
    clock.now += 2.0
    assert usage.text().endswith(" MB, GPU 90 %, 4,000 MB")
    nvml.pids = {}  # a container, in which the numbers of processes are others
    clock.now += 2.0
    assert " MB, 3 GPUs 60 %, " in usage.text()
    nvml.failing = {"GPU-1"}
    clock.now += 2.0
    assert "GPU" not in usage.text()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_gets_ascii(encoding):
    header = RunHeader(**{**HEADER.__dict__, "run_dir": "runs/größe"})
    console, screen = terminal(80, encoding=encoding)
    progress = make_progress(console, clock=Clock())
    progress.start(header)
    progress.note("a dash – and more …")
    progress.compiling()
    progress.compiled(Compiled(1.0, from_cache=False))
    for generation in range(1, 9):
        progress.generation(metrics_at(generation, spikes_per_ms=None))
    progress.stop()
    print_summary(console, summary_rows([metrics_at(8, elapsed=None)]), "finished")
    assert screen.text().isascii()
    assert "#" in screen.text() and "+-" in screen.text()


@pytest.mark.parametrize("width", [30, 40, 80])
def test_missing_metrics_are_dashes(width):
    bare = dict.fromkeys(KEYS) | {"generation": 1}
    frame, _ = drawn(width, [bare], height=40)
    assert "\n".join(frame).count("–") == 8  # all but the time that passed


def test_the_clock_goes_on_between_generations():
    clock = Clock()
    console, screen = terminal(80)
    progress = LiveProgress(console, clock)
    progress.start(HEADER)
    for generation in range(1, 11):
        progress.generation(metrics_at(generation, seconds=60.0, elapsed=60.0 * generation))
    clock.now += 30.0
    progress.stop()
    text = "\n".join(last_frame(console, screen))
    assert "10 min 30 s" in text
    assert "16 h 29 min" in text  # 990 minutes less half a one


def test_the_time_of_a_compilation_is_not_counted_as_elapsed():
    clock = Clock()
    console, screen = terminal(80)
    progress = LiveProgress(console, clock)
    progress.start(HEADER)
    progress.compiling()
    clock.now += 70.0
    progress.compiled(Compiled(70.0, from_cache=False))
    clock.now += 3.0
    progress.stop()
    (elapsed,) = re.findall(r"elapsed +(\S.*?) +", "\n".join(last_frame(console, screen)))
    assert elapsed == "3.0"


@pytest.mark.parametrize(("done", "percent"), [(29, "29 %"), (57, "57 %"), (100, "100 %")])
def test_a_percent_is_whole_when_it_is_reached(done, percent):
    header = RunHeader(**{**HEADER.__dict__, "generations": 100})
    frame, _ = drawn(80, [metrics_at(done)], header=header)
    assert f" {percent}" in "\n".join(frame)


def test_evolution_strategies_show_their_own_figures():
    line = metrics_at(3, entropy=None, density=None, sigma=0.3, center_norm=12.5)
    text = "\n".join(drawn(80, [line])[0])
    assert re.search(r"sigma +0\.300", text) and re.search(r"norm +12\.500", text)
    assert "density" not in text and "entropy" not in text


def test_failed_members_are_seen():
    assert "without" not in "\n".join(drawn(80, [metrics_at(1, failed_members=0)])[0])
    assert "1 member without a finite fitness" in "\n".join(drawn(80, [metrics_at(1, failed_members=1)])[0])
    assert "2,000 members without" in "\n".join(drawn(40, [metrics_at(1, failed_members=2000)])[0])


def test_a_resumed_run_shows_where_it_goes_on():
    header = RunHeader(**{**HEADER.__dict__, "start_generation": 400})
    console, screen = terminal(80)
    progress = make_progress(console, clock=Clock())
    progress.start(header, [metrics_at(g) for g in range(1, 401)])
    progress.stop()
    text = "\n".join(last_frame(console, screen))
    assert "generation 400 of 1,000" in text and "40 %" in text
    assert "best so far 40,000.0 at generation 400" in text
    assert "400 to 1,000, resumed" in screen.text()


def test_something_is_seen_before_the_run_is_open_and_is_gone_when_it_is():
    console, screen = terminal(80)
    progress = make_progress(console, clock=Clock())
    progress.starting("starting [JAX]")
    assert "starting [JAX] ..." in screen.text()
    progress.start(HEADER)
    progress.stop()
    assert screen.text().count("\x1b[?25h") == screen.text().count("\x1b[?25l") == 2
    console, screen = plain_console()
    PlainProgress(console, Clock()).starting("starting [JAX]")
    assert screen.text() == "starting [JAX] ...\n"


@pytest.mark.parametrize(("from_cache", "where"), [(False, ""), (True, ", from the cache")])
def test_how_long_compiling_took_last_time_is_shown(from_cache, where):
    console, screen = terminal(80)
    progress = LiveProgress(console, Clock())
    progress.start(HEADER)
    progress.compiling(Compiled(13.4, from_cache))
    assert progress._live is not None
    progress._live.refresh()
    assert f"compiling ... 0.0 s (last time 13 s{where})" in screen.text()
    progress.compiled(Compiled(2.8, from_cache))
    assert f"compiled in 2.8 s{where}" in screen.text()
    progress.stop()
    console, screen = plain_console()
    progress = PlainProgress(console, Clock())
    progress.compiling(Compiled(13.4, from_cache))
    assert screen.text() == f"compiling ... (last time 13 s{where})\n"


def test_compiling_is_shown_until_it_is_done():
    clock = Clock()
    console, screen = terminal(80)
    progress = LiveProgress(console, clock)
    progress.start(HEADER)
    progress.compiling()
    clock.now += 12.0
    assert progress._live is not None
    progress._live.refresh()
    assert "compiling ... 12 s" in screen.text()
    progress.compiled(Compiled(12.0, from_cache=False))
    progress.stop()
    assert "compiled in 12 s" in screen.text()
    assert "compiling" not in "\n".join(last_frame(console, screen))


@pytest.mark.parametrize("narrow", [98, 70, 49, 30])
def test_a_terminal_that_is_made_narrower_is_cleared_of_what_it_has_wrapped(narrow):
    """A line of 98 characters takes two rows of 70, three of 49."""
    console, screen = terminal(100, height=60)
    progress = LiveProgress(console, Clock())
    progress.start(HEADER)
    progress.generation(metrics_at(1))
    assert progress._live is not None
    progress._live.refresh()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.text()).rpartition("\r")[2].splitlines()
    console.width = narrow
    before = len(screen.text())
    progress._live.refresh()
    ups = screen.text()[before:].count("\x1b[1A")
    assert ups == min(console.height, sum(math.ceil(len(line) / narrow) for line in lines)) - 1
    progress.stop()


def test_rows_that_a_lower_terminal_scrolled_out_of_view_are_cleared_when_they_come_back():
    console, screen = terminal(100, height=24)
    progress = LiveProgress(console, Clock())
    progress.start(HEADER)
    live = progress._live
    assert live is not None

    def redraw(height: int) -> tuple[int, list[str]]:
        console.height, before = height, len(screen.text())
        live.refresh()
        written = screen.text()[before:]
        return written.count("\x1b[1A"), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).replace("\r", "").split("\n")

    rows = len(redraw(24)[1])
    assert 12 < rows < 20
    ups, low = redraw(10)
    assert ups == 9 and len(low) == 10
    assert redraw(10)[0] == 9
    ups, higher = redraw(12)
    assert ups == 11 and len(higher) == 12  # two rows of the first drawing are back, the others still above
    ups, high = redraw(24)
    assert ups == 12 + (rows - 12) - 1 and len(high) == rows
    redraw(10)
    progress.note("stays below them")
    panel = len(last_frame(console, screen))
    assert redraw(24)[0] == panel - 1


def test_the_terminal_is_given_back_after_an_exception():
    console, screen = terminal(80)
    progress = make_progress(console, clock=Clock())
    with pytest.raises(KeyboardInterrupt):
        try:
            progress.start(HEADER)
            raise KeyboardInterrupt
        finally:
            progress.stop()
    progress.stop()
    hidden, shown = screen.text().rfind("\x1b[?25l"), screen.text().rfind("\x1b[?25h")
    assert 0 <= hidden < shown


def test_brackets_in_a_note_or_a_path_are_not_markup():
    console, screen = terminal(80)
    progress = make_progress(console, clock=Clock())
    progress.start(HEADER)
    progress.note("see [red]/tmp/[x][/red]")
    progress.stop()
    assert "see [red]/tmp/[x][/red]" in screen.text()
    assert "runs/hopper [ec] 0" in screen.text()


def test_the_echo_of_an_interrupt_does_not_wrap():
    for width in (40, 80):
        frame, _ = drawn(width, [metrics_at(1)])
        assert max(map(len, frame)) + len("^C") <= width


def test_stop_without_start_is_fine():
    make_progress(terminal(80)[0]).stop()


def test_all_displays_have_rates_in_spikes_per_second():
    assert re.search(r"spikes/s +12\.3", "\n".join(drawn(80, [metrics_at(1)])[0]))
    console, screen = plain_console()
    progress = PlainProgress(console, Clock())
    progress.start(HEADER)
    progress.generation(metrics_at(1))
    assert "12.3 spikes/s" in screen.text() and "spikes/ms" not in screen.text()


# Plain lines


def plain_console(encoding="utf-8") -> tuple[Console, Screen]:
    screen = Screen(encoding)
    return Console(file=screen, width=80, _environ={}), screen


def test_plain_lines_have_no_control_characters_and_are_not_wrapped():
    console, screen = plain_console()
    progress = make_progress(console, clock=Clock())
    assert isinstance(progress, PlainProgress)
    progress.start(HEADER)
    progress.compiling()
    progress.compiled(Compiled(3.0, from_cache=False))
    progress.note("word " * 40)
    progress.generation(metrics_at(1, eval_fitness=None))
    progress.stop()
    lines = screen.text().splitlines()
    assert all(character.isprintable() for line in lines for character in line)
    assert f"note: {'word ' * 40}" in lines
    assert "generation     1/1,000" in lines[-1] and "evaluation         –" in lines[-1]


def test_plain_lines_are_rare_but_the_first_and_the_last_are_there():
    clock = Clock()
    console, screen = plain_console()
    progress = PlainProgress(console, clock)
    progress.start(HEADER)
    for generation in range(1, 1001):
        clock.now += 1.0
        progress.generation(metrics_at(generation))
    progress.stop()
    shown = [int(n.replace(",", "")) for n in re.findall(r"generation +([\d,]+)/1,000", screen.text())]
    assert shown[0] == 1 and shown[-1] == 1000
    assert len(shown) == len(set(shown))
    assert set(shown[1:-1]) == set(range(6, 1000, 5))


def test_plain_lines_show_every_slow_generation():
    clock = Clock()
    console, screen = plain_console()
    progress = PlainProgress(console, clock)
    progress.start(HEADER)
    for generation in range(1, 11):
        clock.now += 30.0
        progress.generation(metrics_at(generation))
    assert len(re.findall("/1,000", screen.text())) == 10


def test_an_interrupted_plain_run_ends_with_its_last_generation():
    console, screen = plain_console()
    progress = PlainProgress(console, Clock())
    progress.start(HEADER)
    for generation in (1, 2, 3):
        progress.generation(metrics_at(generation))
    progress.stop()
    progress.stop()
    assert re.findall(r"generation +(\d+)/", screen.text()) == ["1", "3"]


def test_a_terminal_that_cannot_redraw_gets_plain_lines():
    console = Console(file=Screen(), force_terminal=True, _environ={"TERM": "dumb"})
    assert isinstance(make_progress(console), PlainProgress)


# The end


def test_the_summary_counts_the_share_of_steps_that_counted():
    rows = dict(summary_rows([metrics_at(1000)]))
    assert rows["generations"] == "1,000"
    assert rows["environment steps"] == "1,000,000,000"
    assert rows["simulated steps"] == "1,250,000,000 (80.0 % counted)"
    assert rows["steps/s"] == "500,000"
    assert rows["elapsed"] == "33 min 20 s"


def test_the_summary_tells_the_best_of_the_run_from_the_last_and_from_what_is_saved():
    fitness = {1: (1.0, 9.0), 2: (7.0, 2.0), 3: (5.0, 3.0), 4: (4.0, 4.0)}
    lines = [metrics_at(g, eval_fitness=e, fitness_best=b) for g, (e, b) in fitness.items()]
    rows = dict(summary_rows(lines, best=(3, 4.5), ended="no better network"))
    assert rows["last evaluation"] == "4.0"
    assert rows["best evaluation"] == "7.0 at generation 2"
    assert rows["best network"] == "4.5 smoothed, generation 3: --step best"
    assert rows["best member ever"] == "9.0 at generation 1"
    assert rows["ended"] == "no better network"
    assert not {"best network", "ended"} & dict(summary_rows(lines)).keys()


@pytest.mark.parametrize("width", [40, 80])
def test_the_summary_fits_and_takes_missing_metrics(width):
    console, screen = terminal(width)
    print_summary(console, summary_rows([{"generation": 3}]), "interrupted")
    assert "interrupted" in screen.text()
    assert max(map(len, screen.text().splitlines())) <= width


@pytest.fixture
def notebook(monkeypatch):
    """Pages that a cell of a notebook shows: each is replaced by what updates it."""
    pages = []

    class Handle:
        def __init__(self, page):
            self.number = len(pages)
            pages.append([page])

        def update(self, page):
            pages[self.number].append(page)

    fake = SimpleNamespace(HTML=lambda text: text, display=lambda page, display_id: Handle(page))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=fake))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    return pages


def test_in_a_notebook_the_panel_is_redrawn_in_place_a_few_times_per_second(notebook):
    clock, printed = Clock(), io.StringIO()
    progress = LiveProgress(Console(force_jupyter=True, file=printed), clock)
    progress.start(HEADER)
    progress.compiling()
    for generation in range(1, 31):
        clock.now += 0.1
        progress.generation(metrics_at(generation))
    progress.stop()
    (page,) = notebook
    assert 10 < len(page) < 14
    assert page[0].startswith("<pre") and "hopper" in page[0] and "10,240" in page[0]
    assert "compiling" in page[1] and "compiling" not in page[-1]
    assert "3,000.0" in page[-1] and "3,000.0" not in page[0]


def test_what_is_shown_in_python(monkeypatch, capsys):
    assert type(choose_progress(None)).__name__ == "Progress"
    for kind in ("auto", "plain"):
        progress = choose_progress(kind)
        assert isinstance(progress, PlainProgress)
        progress.note("[once]")
        assert capsys.readouterr().out == "note: [once]\n"
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert isinstance(choose_progress("auto"), LiveProgress) and isinstance(choose_progress("plain"), PlainProgress)
