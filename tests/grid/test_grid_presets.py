"""The published experiment sets."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from evoconn_cli.config.grid import read_grid
from evoconn_cli.config.loading import override_config
from evoconn_cli.config.registry import find, grid_names
from evoconn_cli.config.schema import EsConfig
from evoconn_cli.engine.build import build_engine
from evoconn_cli.engine.devices import start_jax
from evoconn_cli.errors import ConfigError
from evoconn_cli.grid.cells import Point, cells_at, expand, points
from evoconn_cli.progress.display import Progress
from evoconn_cli.runs.metrics import read_metrics
from evoconn_cli.training.opening import create_run, reopen_run
from evoconn_cli.training.train import train

GRIDS = {
    "ec_brax": [("conn_snn", 256)],
    "rnn_brax": [("gru", 256), ("lstm", 128)],
    "dense_snn_brax": [("dense_snn", 256)],
}


def load_grid(name):
    return expand(read_grid(name), Path("runs") / name)


CELLS = [cell for grid in GRIDS for cell in load_grid(grid)]
OF_SEED_0 = [cell for cell in CELLS if cell.seed == 0]
SMALL = [
    "task.episode_length=4",
    "algo.population=16",
    "algo.evaluation_copies=4",
    "network.num_neurons=16",
    "engine.block=8",
    "tracking.wandb=disabled",
]


def test_these_are_all_sets():
    assert sorted([*GRIDS, "ec_search"]) == grid_names()


def test_the_search_has_the_published_space_around_the_published_values():
    grid, cell = read_grid("ec_search"), load_grid("ec_brax")[0]
    assert len(list(points(grid))) == 3 and math.prod(map(len, grid.search.space.values())) == 50
    published = (("algo.learning_rate", 0.15), ("algo.eps", 1e-3), ("network.num_neurons", 256))
    (same,) = cells_at(grid, Point("conn_snn", cell.task, ()), Path("runs"), values=published)
    assert same.id == cell.id


@pytest.mark.parametrize("grid", GRIDS)
def test_a_set_is_every_network_on_three_tasks_with_three_seeds(grid):
    cells = load_grid(grid)
    assert {(cell.config.network.name, cell.config.network.num_neurons) for cell in cells} == set(GRIDS[grid])
    assert {cell.config.task.name for cell in cells} == {"hopper", "walker2d", "humanoid"}
    assert len({cell.config for cell in cells}) == len(cells) == 9 * len(GRIDS[grid])
    assert {cell.config.seed for cell in cells} == {0, 1, 2}
    for cell in cells:
        assert cell.config.algo.population == 10240 and cell.config.rollout.fitness == "until_slowest"


def test_the_sets_say_what_is_published_by_default():
    evolved = [cell.config for cell in CELLS if isinstance(cell.config.algo, EsConfig)]
    values = {(config.network.name, config.algo.sigma, config.algo.learning_rate) for config in evolved}
    published = {name: find("network", name).published["es"] for name in ("gru", "lstm", "dense_snn")}
    assert values == {(name, es["sigma"], es["learning_rate"]) for name, es in published.items()}


def test_an_unknown_grid_names_the_nearest():
    with pytest.raises(ConfigError, match="'ec_brax'"):
        load_grid("ec_brx")


@pytest.mark.slow
@pytest.mark.parametrize("cell", OF_SEED_0, ids=lambda cell: f"{cell.set_name}-{cell.task}")
def test_every_cell_builds(cell):
    config = override_config(cell.config, ["engine.block=64"])
    engine = build_engine(config, start_jax(2))
    assert engine.network.num_parameters > 1000
    assert int(engine.initial_state().generation) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("set_name", "task"),
    [(cell.set_name, cell.task) for cell in OF_SEED_0 if cell.task == "hopper" or cell.set_name == "conn_snn"],
)
def test_cells_of_each_set_and_each_task_train_and_resume(set_name, task, tmp_path):
    """The seeds of a set and task share what is compiled: they differ in their initial state alone."""
    compiled = []

    def build_with_shared_programs(config, workers):
        engine = build_engine(config, workers)

        def compile_once(state):
            if not compiled:
                compiled.append(engine.compile(state))
            return compiled[0]

        return engine._replace(compile=compile_once)

    progress = Progress()
    means = set()
    for cell in (cell for cell in CELLS if (cell.set_name, cell.task) == (set_name, task)):
        path = tmp_path / str(cell.seed)
        run = create_run(override_config(cell.config, [*SMALL, "algo.generations=1"]), path)
        assert train(run, progress, make_engine=build_with_shared_programs).finished
        run = reopen_run(path, ["algo.generations=2"])
        assert train(run, progress, make_engine=build_with_shared_programs).finished
        lines = read_metrics(run.directory.metrics_file)
        assert [line["generation"] for line in lines] == [1, 2]
        means.add(lines[-1]["fitness_mean"])
    assert len(means) == 3 and len(compiled) == 1
