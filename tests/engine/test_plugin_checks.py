"""What the engine says about plug-ins that are wrong; nothing is compiled."""

from __future__ import annotations

import pytest
from plugins import CLIMB, POINT, RATE, forgotten

from evoconn_cli.config.loading import load_config
from evoconn_cli.config.plugins import load_plugins
from evoconn_cli.engine.build import build_engine
from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.errors import PluginError

SMALL = ("algo.population=16", "engine.block=4", "network.num_neurons=4")


@pytest.fixture(autouse=True)
def nothing_left():
    with forgotten():
        yield


def build(folder, point=POINT, rate=RATE, climb=CLIMB, *overrides):
    """Returns the engine of three plug-ins."""
    import jax

    for name, text in {"point": point, "rate": rate, "climb": climb}.items():
        (folder / f"{name}.py").write_text(text)
        load_plugins([str(folder / f"{name}.py")])
    config = load_config(None, ["task.name=point", "network.name=rate", "algo.name=climb", *SMALL, *overrides])
    return build_engine(config, make_worker_mesh(jax.devices()[:1]))


def test_three_plugins_that_are_right_make_an_engine(tmp_path):
    engine = build(tmp_path)
    assert (engine.task.name, engine.network.name, engine.strategy.name) == ("point", "rate", "climb")


@pytest.mark.parametrize("algo", ["ec", "es"])
def test_what_evoconn_has_itself_is_right(tmp_path, algo):
    (tmp_path / "point.py").write_text(POINT)
    load_plugins([str(tmp_path / "point.py")])
    import jax

    config = load_config(None, ["task.name=point", f"algo.name={algo}", *SMALL])
    assert build_engine(config, make_worker_mesh(jax.devices()[:1])).task.name == "point"


STATE = "return TaskState((x, v), jnp.stack([x, v]), 1.0 - x * x, jnp.abs(x) > 3.0, steps)"
TASK = "the task 'point' of point.py: "
WRONG_TASKS = {
    "nothing": (
        '    return Task("point", ',
        '    Task("point", ',
        "make returns a NoneType, and must return an evoconn_cli.Task.",
    ),
    "an error": (
        '    return Task("',
        '    config.weight\n    return Task("',
        "make fails: AttributeError: 'PointConfig' object",
    ),
    "no action": ("action_size=1", "action_size=0", "action_size is 0, and must be a whole number above 0."),
    "no time": ("dt=0.1", "dt=0", "dt is 0, and must be the seconds of a step, above 0."),
    "a tuple": (
        STATE,
        "return (x, v), x, x, x, x",
        "reset(key) gives a tuple, and must give an evoconn_cli.TaskState.",
    ),
    "another size": (
        "jnp.stack([x, v])",
        "jnp.stack([x, v, v])",
        "reset(key).obs is float32 [3], and must be float32 [2] (observation_size is 2).",
    ),
    "whole numbers": (
        "jnp.stack([x, v])",
        "jnp.stack([x, v]).astype(int)",
        "reset(key).obs is int32 [2], and must be float32 [2] (observation_size is 2).",
    ),
    "a reward of one value": (
        "1.0 - x * x",
        "(1.0 - x * x)[None]",
        "reset(key).reward is float32 [1], and must be float32 [].",
    ),
    "a done that is no bool": ("jnp.abs(x) > 3.0", "x", "reset(key).done is float32 [], and must be bool []."),
    "an if": (
        "        v = v + 0.1",
        "        if x > 0:\n            v = -v\n        v = v + 0.1",
        "step fails: it cannot be traced by JAX, because Python needs the value of an array there. Use jnp.where or "
        "jax.lax.cond in place of `if`, and jnp in place of NumPy.",
    ),
    "another action": ("action[0]", "action[:, 0]", "step fails: IndexError: Too many indices"),
    "a state that grows": (
        "return state(x + 0.1 * v, v, before.steps + 1)",
        "after = state(x + 0.1 * v, v, before.steps + 1)\n        return after._replace(physics=(x, v, v))",
        "step(state, action).physics[2] is float32 [], and reset(key).physics[2] is missing. They must be the same.",
    ),
    "a state of another type": (
        "return state(x + 0.1 * v, v, before.steps + 1)",
        "after = state(x + 0.1 * v, v, before.steps + 1)\n        return after._replace(physics=(x, jnp.int32(0)))",
        "step(state, action).physics[1] is int32 [], and reset(key).physics[1] is float32 []. They must be the same.",
    ),
    "poses without shapes": (
        "dt=0.1, ",
        "dt=0.1, poses=lambda s: (jnp.zeros((1, 3)), jnp.zeros((1, 4))), ",
        "poses needs shapes that move, of evoconn_cli.Shape, to be drawn.",
    ),
}


def failure(folder, **texts):
    with pytest.raises(PluginError) as caught:
        build(folder, **texts)
    return caught.value


@pytest.mark.parametrize(("old", "new", "message"), WRONG_TASKS.values(), ids=WRONG_TASKS.keys())
def test_a_wrong_task_is_named_with_what_is_wrong(tmp_path, old, new, message):
    assert old in POINT
    error = failure(tmp_path, point=POINT.replace(old, new))
    assert str(error).startswith(TASK + message)


def test_an_error_in_a_plugin_has_its_own_lines_and_nobody_elses(tmp_path):
    error = failure(
        tmp_path,
        point=POINT.replace("        v = v + 0.1", "        if x > 0:\n            v = -v\n        v = v + 0.1"),
    )
    notes = "\n".join(error.__notes__)
    assert 'point.py", line 28, in step' in notes and "if x > 0:" in notes
    assert notes.count("File ") == 1 and "evoconn_cli/" not in notes and "jax/" not in notes


NETWORK = "the network 'rate' of rate.py: "
WRONG_NETWORKS = {
    "booleans": (
        "jnp.float32) for",
        "jnp.bool_) for",
        "shapes['input'] is bool [2, 4], and must be float32 [2, 4] (it is registered with candidates='weights').",
    ),
    "other weights": (
        "0.1 * jax.random.normal(key, size)",
        "jnp.zeros(3)",
        "initial_weights(key)['input'] is float32 [3]",
    ),
    "one carry": (
        "jnp.zeros((keys.shape[0], config.num_neurons))",
        "jnp.zeros((config.num_neurons,))",
        "initial_carry(keys) is float32 [4] for a block of 3 members, which come first.",
    ),
    "a carry alone": (
        "        return carry, jnp.einsum",
        "        return jnp.einsum",
        "step(params, carry, obs) gives an array float32 [3, 1]",
    ),
    "another action": (
        'jnp.tanh(carry), params["output"])',
        'jnp.tanh(carry), params["output"]).T',
        "the action of step(params, carry, obs) is float32 [1, 3], and must be float32 [3, 1] (the task's action_size",
    ),
    "no active": (", obs, active=None", ", obs", "step fails: TypeError:"),
    "a layer without an array": (
        'layers={"input"',
        'layers={"in"',
        "layers has 'in', and shapes has no array [pre, post]",
    ),
    "no neurons": ('"observation", "neurons"', '"observation", "action"', "no layer of `layers` ends at the neurons"),
}


@pytest.mark.parametrize(("old", "new", "message"), WRONG_NETWORKS.values(), ids=WRONG_NETWORKS.keys())
def test_a_wrong_network_is_named_with_what_is_wrong(tmp_path, old, new, message):
    assert old in RATE
    assert str(failure(tmp_path, rate=RATE.replace(old, new))).startswith(NETWORK + message)


STRATEGY = "the strategy 'climb' of climb.py: "
WRONG_STRATEGIES = {
    "a center of no block": (
        "lambda state: jax.tree.map(lambda c: c[None], state)",
        "lambda state: state",
        "center(state)['input'] is float32 [2, 4], and the network's candidates (B = 1)['input'] is float32 [1, 2, 4].",
    ),
    "one candidate": (
        "return jax.vmap(one)(members)",
        "return one(members[0])",
        "ask(key, state, members)['input'] is float32 [2, 4], and the network's candidates (B = 3)['input'] is float32",
    ),
    "another state": (
        "c + s / config.num_members**2",
        "(c + s)[None]",
        "the state of tell(state, sums, weights)['input'] is float32 [1, 2, 4], and",
    ),
    "no metrics": (
        '{"moved": jnp.float32(1)}',
        "None",
        "the metrics of tell(state, sums, weights) is a NoneType, and must be a dict",
    ),
    "metrics per member": (
        "jnp.float32(1)",
        "weights",
        "the metrics of tell(state, sums, weights) has 'moved' as int32 [12], and",
    ),
    "an if": (
        "    def tell(state, sums, weights):",
        "    def tell(state, sums, weights):\n        assert weights[0] > 0",
        "tell fails: it cannot be traced",
    ),
}


@pytest.mark.parametrize(("old", "new", "message"), WRONG_STRATEGIES.values(), ids=WRONG_STRATEGIES.keys())
def test_a_wrong_strategy_is_named_with_what_is_wrong(tmp_path, old, new, message):
    assert old in CLIMB
    assert str(failure(tmp_path, climb=CLIMB.replace(old, new))).startswith(STRATEGY + message)
