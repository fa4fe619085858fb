"""Grid files: what they expand to, and what is said where they are wrong."""

from __future__ import annotations

import dataclasses
import re

import pytest
from grids import TINY, load_cells, write_grid
from paths import DOCS

from evoconn_cli.config.grid import read_grid
from evoconn_cli.config.loading import load_config, override_config
from evoconn_cli.config.registry import grid_names
from evoconn_cli.errors import ConfigError
from evoconn_cli.grid.cells import cell_id, expand

ONE = "base: smoke\nseeds: [0]\n"


def cells_of(tmp_path, text, name="tiny"):
    return load_cells(write_grid(tmp_path, text, name), tmp_path / "runs")


def test_every_set_on_every_task_with_every_combination_and_seed(tmp_path):
    cells = cells_of(tmp_path, TINY.replace("[4]\n  task", "[4, 6]\n  task"))
    assert len(cells) == len({cell.path for cell in cells}) == 2 * 2 * 2 * 2
    cell = cells[0]
    assert cell.path == tmp_path / "runs" / f"small-probe_sign-{cell.id}" / "seed0"
    assert (cell.config.algo.population, cell.config.task.name, cell.config.seed) == (32, "probe_sign", 0)
    assert dict(cell.settings)["algo.generations"] == cell.config.algo.generations == 4
    assert {cell.config.algo.generations for cell in cells} == {4, 6}


def test_a_cell_is_what_the_same_overrides_give_train(tmp_path):
    (cell,) = cells_of(tmp_path, ONE + "tasks: [probe_bias]\nsets: {a: {algo: {eps: 1.0e-2, learning_rate: 1e-1}}}\n")
    config = load_config("smoke", ["task.name=probe_bias", "algo.eps=0.01", "algo.learning_rate=0.1"])
    assert dataclasses.replace(cell.config, tracking=config.tracking) == config


def test_tracking_has_the_group_the_seed_and_the_grid(tmp_path):
    tracking = cells_of(tmp_path, TINY)[1].config.tracking
    assert (tracking.name, tracking.tags) == ("seed1", "tiny,small,probe_sign")
    cells = cells_of(tmp_path, ONE + "axes: {algo.eps: [0.1, 0.01]}\n")
    assert [cell.config.tracking.group for cell in cells] == [cell.group for cell in cells], "one for each setting"
    assert [cell.config.tracking.tags.split(",")[-1] for cell in cells] == ["eps=0.1", "eps=0.01"]
    (own,) = cells_of(tmp_path, ONE + "sets: {a: {tracking.group: mine, tracking.name: me}}\n")
    assert (own.config.tracking.group, own.config.tracking.name) == ("mine", "me")


def test_the_id_is_of_what_shapes_the_run(tmp_path):
    config = load_config("smoke")
    for same in ("seed=1", "engine.devices=1", "engine.kernel=xla", "checkpoint.every=7", "tracking.wandb=offline"):
        assert cell_id(override_config(config, [same])) == cell_id(config)
    others = ["algo.generations=99", "algo.eps=0.01", "engine.block=8", "rollout.resets=fresh", "task.name=hopper"]
    assert len({cell_id(override_config(config, [other])) for other in others} | {cell_id(config)}) == 6


def test_a_changed_grid_keeps_the_cells_it_had(tmp_path):
    before = {cell.path for cell in cells_of(tmp_path, TINY)}
    more = TINY.replace("[0, 1]", "[0, 1, 2]").replace("[8]", "[8, 16]")
    after = {cell.path for cell in cells_of(tmp_path, more)}
    assert before < after and len(after) == 3 * len(before)


def test_the_key_decides_whether_whole_bounds_mean_whole_numbers(tmp_path):
    space = "{network.excitatory_ratio: {low: 0, high: 1}, algo.population: {low: 32, high: 64}}"
    search = read_grid(str(write_grid(tmp_path, f"{ONE}search: {{space: {space}}}\n"))).search
    ratio, population = search.space["network.excitatory_ratio"], search.space["algo.population"]
    assert (ratio.is_whole, population.is_whole) == (False, True)
    assert type(ratio.low) is float and type(population.low) is int


def test_keys_of_search_can_be_given_on_the_command_line(tmp_path):
    file = str(write_grid(tmp_path, ONE + "search: {trials: 3, space: {algo.eps: [0.1]}}\n"))
    search = read_grid(file, ["search.trials=7", "launch.retries=0", "search.sampler=grid"]).search
    assert (search.trials, search.sampler, search.num_trials) == (7, "grid", 1)
    with pytest.raises(ConfigError, match=r"search\.trials=3: the grid file has no section search"):
        read_grid("ec_brax", ["search.trials=3"])


def test_cells_with_the_same_id_and_another_configuration_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("evoconn_cli.grid.cells.cell_id", lambda config: "0" * 8)
    with pytest.raises(ConfigError, match="two different cells have the id 00000000"):
        cells_of(tmp_path, ONE + "axes: {algo.eps: [0.1, 0.01]}\n")


def test_a_set_may_have_a_task_of_its_own(tmp_path):
    text = "base: paper\nsets: {one: {task.name: ant}, all: {algo.eps: 0.01}}\ntasks: [hopper, walker2d]\nseeds: [0]\n"
    cells = cells_of(tmp_path, text)
    assert [(cell.set_name, cell.task) for cell in cells] == [("one", "ant"), ("all", "hopper"), ("all", "walker2d")]
    assert [cell.config.task.name for cell in cells] == ["ant", "hopper", "walker2d"]


def test_a_base_without_a_task_asks_for_tasks(tmp_path):
    with pytest.raises(ConfigError, match=r"base paper has no task: list some in `tasks`"):
        cells_of(tmp_path, "base: paper\nseeds: [0]\n")


def test_the_base_may_be_a_file_beside_the_grid(tmp_path):
    (tmp_path / "own.yaml").write_text("task: {name: probe_bias}\nalgo: {population: 64}\n")
    (cell,) = cells_of(tmp_path, "base: ./own.yaml\nseeds: [5]\n")
    assert (cell.set_name, cell.task, cell.config.algo.population, cell.config.seed) == ("tiny", "probe_bias", 64, 5)


@pytest.mark.slow
def test_a_file_may_have_a_dash_in_its_name(tmp_path):
    (cell,) = cells_of(tmp_path, ONE + "sets: {a: {}}\ntasks: [probe_bias]\n", "my-grid")
    assert cell.group == f"a-probe_bias-{cell.id}" and cell.config.tracking.tags == "my-grid,a,probe_bias"
    (alone,) = cells_of(tmp_path, ONE + "tasks: [probe_bias]\n", "my-grid")
    assert alone.group == f"my_grid-probe_bias-{cell.id}"


YAML_OF_DOCS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in (*sorted(DOCS.glob("grids*.md")), DOCS / "search.md")
    for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))
]


@pytest.mark.parametrize("block", YAML_OF_DOCS)
def test_the_grid_files_of_the_documentation_can_be_read(block, tmp_path):
    whole = block if "base:" in block else ONE + block
    read_grid(str(write_grid(tmp_path, whole)))


def test_there_are_grid_files_in_the_documentation():
    assert len(YAML_OF_DOCS) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", grid_names())
def test_shipped_grids_expand(name, tmp_path):
    grid = read_grid(name)
    assert len(expand(grid, tmp_path)) in ((9, 18) if grid.search is None else (0,))


WRONG = {
    "sed: 1": "'seeds'",
    "sets: [a]": "sets: expected a section",
    "sets: {a-b: {}}": "without '-'",
    "sets: {a: {algo.popluation: 3}}": "'algo.population'",
    "sets: {a: {algo.population: many}}": "algo.population",
    "sets: {a: {seed: 1}}": "`seeds`",
    "axes: {task.name: [ant]}": "`tasks`",
    "sets: {a: {task.name: antelope}}": "Did you mean 'ant'",
    "sets: {a: {task.name: ant}}\ntasks: [hopper]": "tasks: no set uses them",
    "tasks: []": "tasks: expected a list",
    "tasks: [hoper]": "'hopper'",
    "axes: {algo.eps: 0.1}": "axes.algo.eps: expected a list",
    "axes: {algo.eps: [0.1, 0.1]}": "twice",
    "axes: {algo.eps: [0.1, 0.7]}": "algo.eps=0.7",
    "axes: {algo.eps: [0.1]}\nsets: {a: {algo.eps: 0.2}}": "both set algo.eps",
    "axes: {algo.eps: [0.1]}\nsearch: {space: {algo.eps: [0.2]}}": "both set algo.eps",
    "search: {trials: 3}": "`space` is missing",
    "search: {trials: 0, space: {algo.eps: [0.1]}}": "search.trials=0: must be at least 1",
    "search: {space: {algo.eps: {low: 0.2, high: 0.1}}}": "low=0.2 must be less",
    "search: {space: {algo.eps: {low: 0, high: 0.1, scale: log}}}": "more than 0",
    "search: {space: {algo.eps: {low: 0.01, high: 0.1, scale: lg}}}": "'log'",
    "launch: {retrys: 3}": "'launch.retries'",
    "launch: {retries: -1}": "launch.retries=-1: must be at least 0",
    "launch: {retries: often}": "launch.retries",
    "launch: {time_limit: soon}": "launch.time_limit: cannot read the time 'soon'",
    "launch: {slurm: {time: 3m}}": "launch.slurm.time=3m: a cell may be asked to save 180 s before it",
    "launch: {environment: [1]}": "launch.environment: expected a section",
    "launch: {environment: {a-b: x}}": "'a-b' is not the name of a variable",
    'launch: {environment: {"A=1; id; B": x}}': "is not the name of a variable",
    'launch: {environment: {A: "\\0"}}': "cannot be the value of a variable",
    "launch: {environment: {A: [1]}}": "cannot be the value of a variable",
    "launch: {slurm: {sbatch: {exclude: [a]}}}": "write it in quotes",
    "sets: {a: {algo.eps: !!binary aGk=}}": "is not valid YAML",
    "sets: {a: {algo.eps: [0.1]}}": "is not a plain value",
    "sets: {a: {algo.eps: 0.1, algo: {eps: 0.2}}}": "algo.eps is given twice",
    "axes: {checkpoint.every: [1, 2]}": "axes.checkpoint.every: this key is not part",
    "search: {space: {engine.kernel: [xla, auto]}}": "search.space.engine.kernel: this key is not part",
    "published: {source: a paper, tiny: {hoper: 1}}": "'hopper'",
    "published: {tiny: {hopper: 1}}": "`source` is missing",
    "published: {source: a paper, other: {hopper: 1}}": "unknown set in published",
    "published: {source: a paper, tiny: {hopper: much}}": "expected a number",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items())
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(ConfigError) as error:
        cells_of(tmp_path, f"{ONE}{text}\n")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "seeds: [0]": "base is missing",
        "base: smoke": "seeds is missing",
        "base: smoke\nseeds: 3": "seeds: expected a list",
        "base: smoke\nseeds: [a]": "not a whole number",
        "base: smoke\nseeds: [-1]": "seed=-1",
        "base: smok\nseeds: [0]": "'smoke'",
    }.items(),
)
def test_a_grid_needs_a_base_and_seeds(tmp_path, text, message):
    with pytest.raises(ConfigError) as error:
        cells_of(tmp_path, text)
    assert message in str(error.value)


def test_unknown_grids_name_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"'ec_brax'.*named by its path"):
        read_grid("ec_brx")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        read_grid(str(tmp_path / "nowhere.yaml"))


def test_texts_of_launch_stay_as_they_are_written(tmp_path):
    slurm = "{partition: 1e5, sbatch: {exclusive: no}}"
    text = f"{ONE}launch: {{environment: {{OMP_PLACES: 007}}, time_limit: 3:50:00, slurm: {slurm}}}\n"
    launch = read_grid(write_grid(tmp_path, text), ["launch.environment.DEBUG=off"]).launch
    assert launch.environment == {"OMP_PLACES": "007", "DEBUG": "off"}
    assert launch.time_limit == "3:50:00"
    assert (launch.slurm.partition, launch.slurm.sbatch) == ("1e5", {"exclusive": "no"})


def test_numbers_of_a_grid_are_those_of_the_command_line(tmp_path):
    text = "base: smoke\nseeds: [010, 08, 0x10]\naxes: {network.num_neurons: [012]}\nlaunch: {retries: 03}\n"
    cells = cells_of(tmp_path, text)
    assert [cell.seed for cell in cells] == [10, 8, 16]
    assert cells[0].config == dataclasses.replace(
        load_config("smoke", ["seed=010", "network.num_neurons=012"]), tracking=cells[0].config.tracking
    )
    assert read_grid(str(write_grid(tmp_path, text)), ["launch.cores_per_run=010"]).launch.cores_per_run == 10
    with pytest.raises(ConfigError, match="'1_000' is not a whole number"):
        cells_of(tmp_path, "base: smoke\nseeds: [1_000]\n")
    with pytest.raises(ConfigError, match="1000.0 is not a whole number: write 1000"):
        cells_of(tmp_path, "base: smoke\nseeds: [1e3]\n")
    with pytest.raises(ConfigError, match="Write slurm: "):
        cells_of(tmp_path, ONE + "launch: {slurm.time: 4h}\n")
