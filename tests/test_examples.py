"""The plug-ins in examples/: used as the pages about one's own task, network and strategy say."""

from __future__ import annotations

import importlib
import json
import re
import shlex

import gymnasium
import numpy as np
import pytest
from paths import DOCS, ROOT
from PIL import Image
from plugins import forgotten
from saved_runs import save_run
from whole_runs import comparable, saved_state

import evoconn_cli
import evoconn_cli.gymnasium
from evoconn_cli.config.plugins import load_plugins
from evoconn_cli.rendering.mujoco import find_backend
from evoconn_cli.runs.metrics import read_metrics

EXAMPLES = ROOT / "examples"
PAGES = {"own-task": "point_mass", "own-network": "leaky_network", "own-strategy": "rank_one_es"}
CHOSEN = {
    "cartpole": {"task.name": "cartpole", "task.force": 8.0, "algo.name": "es", "network.name": "mlp"},
    "leaky_network": {"task.name": "probe_sign", "network.name": "leaky", "network.leak": 0.4},
    "point_mass": {"task.name": "point_mass", "task.mass": 2.0, "algo.name": "es", "network.name": "mlp"},
    "rank_one_es": {"task.name": "probe_sign", "algo.name": "rank_one_es", "network.name": "mlp"},
}
SMALL = {
    "algo.population": 20,
    "network.num_neurons": 8,
    "task.episode_length": 8,
    "engine.block": 8,
    "engine.devices": 1,
    "tracking.wandb": "disabled",
}
EXPORTED = {"leaky_network": {"kernels/input", "kernels/recurrent", "kernels/output", "probs/recurrent"}}


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch):
    monkeypatch.delenv("EVOCONN_PLUGINS", raising=False)
    with forgotten():
        yield


def plugin(name: str) -> tuple[str, str]:
    return "--plugin", str(EXAMPLES / f"{name}.py")


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOSEN)
def test_an_example_is_trained_resumed_evaluated_and_exported(name, evoconn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {**SMALL, **CHOSEN[name]}
    words = [f"{key}={value}" for key, value in given.items()]
    with forgotten():
        assert evoconn("train", *words, "algo.generations=2", "--run-dir", "run", *plugin(name))[0] == 0
        assert evoconn("resume", "run", "--generations", 3, *plugin(name))[0] == 0
        code, out, _ = evoconn("evaluate", "run", "--episodes", 4, "--json", "-", *plugin(name))
        assert code == 0
        mean = json.loads(out)["evaluations"][0]["return"]["mean"]
        assert evoconn("export-connectivity", "run", "--format", "npz", "--out", "run.npz", *plugin(name))[0] == 0
        with np.load("run.npz") as arrays:
            assert EXPORTED.get(name, {"kernels/Dense_0/kernel", "normalizer/mean"}) <= set(arrays)
        code, _, err = evoconn("export-connectivity", "run", "--format", "nir", *plugin(name))
        assert code == 2 and re.search(r"nir does not hold \w+: it has no spikes\. .*npz", err)
    monkeypatch.syspath_prepend(EXAMPLES)
    importlib.import_module(name)
    run = evoconn_cli.train(run_dir="python", progress=None, **given, **{"algo.generations": 3})
    assert comparable(tmp_path / "python") == comparable(tmp_path / "run")
    for key, array in saved_state(tmp_path / "run").items():
        np.testing.assert_array_equal(array, saved_state(tmp_path / "python")[key])
    assert run.evaluate(4).summary.mean == mean


@pytest.mark.slow
@pytest.mark.skipif(find_backend()[0] is None, reason="MuJoCo cannot draw here")
@pytest.mark.parametrize(("name", "has_target"), [("cartpole", False), ("point_mass", True)])
def test_an_example_with_poses_is_drawn(name, has_target, evoconn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with forgotten():
        load_plugins([str(EXAMPLES / f"{name}.py")])
        save_run(tmp_path / "run", f"task.name={name}")
        env = gymnasium.make(f"evoconn/{name}-v1", render_mode="rgb_array", width=160, height=120)
        env.reset(seed=0)
        pictures = [env.render()]
        env.close()
    for file in ("a.png", "a.gif", "a.html", "a.mp4"):
        size = () if file == "a.html" else ("--size", "160x120")
        options = ("--steps", 4, "--no-overlay", *size)
        assert evoconn("render", "run", "--out", file, *options, *plugin(name))[0] == 0
    assert name in (tmp_path / "a.html").read_text()
    for picture in [*pictures, np.asarray(Image.open("a.png").convert("RGB"))]:
        red, green, blue = picture.astype(int).transpose(2, 0, 1)
        assert ((red > 2 * green).sum() > 5) == has_target
        assert (np.minimum(np.minimum(red, green), blue) > 90).sum() > 30  # bodies; the floor is darker


@pytest.mark.slow
def test_cartpole_reaches_its_return(evoconn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (EXAMPLES / "cartpole.py").read_text()
    (command,) = re.findall(r"^    evoconn (.*)", text, re.MULTILINE)
    stated, generation = re.findall(r"Return: (\d+)\b.*after (\d+) generations", text)[0]
    words = shlex.split(command.replace("examples/", f"{EXAMPLES}/"))
    assert evoconn(*words, "tracking.wandb=disabled", "--run-dir", "run")[0] == 0
    fitness = [line["eval_fitness"] for line in read_metrics(tmp_path / "run/metrics.jsonl")]
    assert len(fitness) == int(generation) and max(fitness) >= float(stated)


# Pages


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_the_example_as_it_is(page):
    assert blocks(page)[0] == (EXAMPLES / f"{PAGES[page]}.py").read_text()


def test_the_other_code_of_the_page_about_tasks_is_true(monkeypatch, capsys):
    _, discrete, alone = blocks("own-task")
    assert discrete in (EXAMPLES / "cartpole.py").read_text()
    monkeypatch.syspath_prepend(EXAMPLES)
    exec(compile(alone, "own-task.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_network_with_real_weights_of_the_page_is_accepted(tmp_path):
    text, registered, initial = blocks("own-network")
    text = text.replace('@register_network("leaky", candidates="connections", config=LeakyConfig)\n', registered)
    text = text.replace("    def passed(", f"{initial}\n    def passed(")
    text = text.replace("jnp.bool_", "jnp.float32").replace("initial_weights=None", "initial_weights=initial_weights")
    (tmp_path / "leaky_real.py").write_text(text)
    load_plugins([str(tmp_path / "leaky_real.py")])
    save_run(tmp_path / "run", "network.name=leaky", "algo.name=es")
    assert set(evoconn_cli.load_run(tmp_path / "run").state.strategy.center) == {"input", "recurrent", "output"}
