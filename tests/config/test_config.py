"""Configurations: presets, merging, and one clear message for everything that is wrong."""

from __future__ import annotations

import pytest

from evoconn_cli.config.fields import walk
from evoconn_cli.config.loading import (
    config_from_yaml,
    config_to_yaml,
    load_config,
    override_config,
    read_config,
    write_config,
)
from evoconn_cli.config.registry import config_dir, find, names, preset_names
from evoconn_cli.errors import ConfigError, ExitCode

HOPPER = ["task.name=hopper"]

BAD_OVERRIDES = {
    "no task": ([], "--task"),
    "unknown task": (["task.name=hoper"], "'hopper'"),
    "unknown strategy": ([*HOPPER, "algo.name=ce"], "unknown strategy 'ce'. Did you mean"),
    "a pair that does not go together": (
        [*HOPPER, "algo.name=ec", "network.name=gru"],
        "ec with conn_snn; es with lstm, gru, mlp, dense_snn",
    ),
    "an odd number of perturbed members": ([*HOPPER, "algo.name=es", "algo.population=41"], "must be even"),
    "a key of another strategy": (
        [*HOPPER, "algo.name=es", "algo.eps=0.1"],
        "unknown key 'algo.eps': it is a key of ec, and the strategy is es",
    ),
    "a key of other networks": (
        [*HOPPER, "network.name=gru", "network.tau_m_ms=3"],
        "unknown key 'network.tau_m_ms': it is a key of conn_snn, dense_snn, and the network is gru",
    ),
    "more members than can be counted": ([*HOPPER, "algo.population=99999999999999999999"], "at most 1000000"),
    "a number beyond 32 bits": ([*HOPPER, "task.episode_length=3000000000"], "at most 2147483647"),
    "a bonus left out of many episodes": (
        [*HOPPER, "rollout.alive_bonus=0.5", "rollout.fitness=until_slowest"],
        "rollout.fitness=first_episode",
    ),
    "generations of a bonus that counts in all": (
        [*HOPPER, "rollout.alive_bonus_generations=9"],
        "Set rollout.alive_bonus below 1",
    ),
    "a first probability outside the bounds": ([*HOPPER, "algo.initial_prob=0.0001"], "0.001 to 0.999"),
    "a word that YAML takes for false": ([*HOPPER, "tracking.wandb=off"], "'off'. Did you mean 'offline'"),
    "unknown network": ([*HOPPER, "network.name=con_snn"], "'conn_snn'"),
    "unknown key": ([*HOPPER, "algo.populaton=3"], "Did you mean 'algo.population'"),
    "key without its section": ([*HOPPER, "population=3"], "Did you mean 'algo.population'"),
    "key of another section": ([*HOPPER, "task.population=3"], "unknown key 'task.population'"),
    "not a number": ([*HOPPER, "algo.population=abc"], "algo.population=abc: must be a whole number"),
    "not whole": ([*HOPPER, "algo.population=10.5"], "algo.population"),
    "null for a number": ([*HOPPER, "algo.population=null"], "algo.population"),
    "below its range": ([*HOPPER, "algo.eps=0"], "algo.eps=0.0: must be at least 1.5"),
    "below the grain of the draws": ([*HOPPER, "algo.eps=1e-5"], "algo.eps=1e-05: must be at least 1.5"),
    "too many for exact sums": ([*HOPPER, "algo.population=2000001"], "must be at most 1000000"),
    "above its range": ([*HOPPER, "algo.eps=0.6"], "must be less than 0.5"),
    "not finite": ([*HOPPER, "algo.learning_rate=.inf"], "finite"),
    "negative seed": ([*HOPPER, "seed=-1"], "seed=-1: must be at least 0"),
    "not a choice": ([*HOPPER, "rollout.fitness=first"], "'first_episode'"),
    "all evaluation copies": ([*HOPPER, "algo.population=128", "algo.evaluation_copies=128"], "at least 130"),
    "too few members": ([*HOPPER, "algo.population=5"], "at least 6"),
    "threshold below rest": ([*HOPPER, "network.v_rest=2"], "must be above network.v_rest"),
    "no sub-step": ([*HOPPER, "network.dt_ms=40"], "at most network.step_ms"),
    "a section that is a value": (["task=hopper"], "task: expected a section"),
    "more steps than 32 bits count": (
        [*HOPPER, "algo.population=1000000", "task.episode_length=10000"],
        "counted in 32 bits",
    ),
    "0 in float32": ([*HOPPER, "algo.adam_eps=1e-46"], "algo.adam_eps=1e-46: must be at least 1.175494e-38"),
    "subnormal in float32": ([*HOPPER, "algo.adam_eps=1e-39"], "must be at least 1.175494e-38"),
    "infinite in float32": ([*HOPPER, "algo.learning_rate=1e39"], "must be between -3.402823e+38 and 3.402823e+38"),
    "negative, infinite in float32": ([*HOPPER, "network.v_rest=-1e39"], "must be between -3.402823e+38"),
    "1 in float32": ([*HOPPER, "algo.adam_beta2=0.9999999999"], "must be less than 1, and is 1.0 in float32"),
    "1/2 in float32": ([*HOPPER, "algo.eps=0.4999999999"], "must be less than 0.5, and is 0.5 in float32"),
    "as much as another value in float32": ([*HOPPER, "network.v_rest=0.9999999999"], "must be above network.v_rest"),
    "more sub-steps than 32 bits count": ([*HOPPER, "network.step_ms=1e12"], "sub-steps of an environment step are"),
    "a section that is null": ([*HOPPER, "tracking=null"], "tracking: expected a section"),
    "no equals sign": (["hopper"], "KEY=VALUE"),
    "a flag among the overrides": (["--sead=3"], "KEY=VALUE"),
    "broken YAML": ([*HOPPER, "seed={"], "cannot read the override 'seed={'"),
    "an interpolation to nowhere": ([*HOPPER, "seed=${nothing}"], "seed"),
}


@pytest.mark.parametrize("overrides, message", BAD_OVERRIDES.values(), ids=BAD_OVERRIDES.keys())
def test_what_is_wrong_is_said(overrides, message):
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == ExitCode.USAGE


NUMBERS = {
    "010": 10,
    "08": 8,
    "+5": 5,
    "0o17": 15,
    "0x1F": 31,
    "'12'": 12,
    "1_000": "must be a whole number",
    "1:30": "must be a whole number",
    "0b11": "must be a whole number",
    "\u0663": "must be a whole number",  # a digit three, in Arabic
    "1e4": "must be a whole number: write 10000",
    "2.0": "must be a whole number: write 2",
}
"""What is written, and what it is in the core schema of YAML 1.2, or why it is refused."""


@pytest.mark.parametrize(("written", "expected"), NUMBERS.items())
def test_numbers_are_read_alike_in_overrides_and_files(tmp_path, written, expected):
    path = tmp_path / "mine.yaml"
    path.write_text(f"task: {{name: hopper}}\nseed: {written}  # a comment\n")
    for source, overrides in ((None, [*HOPPER, f"seed={written}"]), (str(path), [])):
        if isinstance(expected, int):
            assert load_config(source, overrides).seed == expected
        else:
            with pytest.raises(ConfigError, match=f"seed=.*: {expected}"):
                load_config(source, overrides)


@pytest.mark.parametrize("written", ["!!int 1:30", "!!int '010_0'", "!!float 1_0.5", "!!bool yes"])
def test_tags_do_not_bring_yaml_1_1_back(tmp_path, written):
    path = tmp_path / "mine.yaml"
    path.write_text(f"task: {{name: hopper}}\nseed: {written}\n")
    for source, overrides in ((None, [*HOPPER, f"seed={written}"]), (str(path), [])):
        with pytest.raises(ConfigError, match="must be a whole number"):
            load_config(source, overrides)


@pytest.mark.parametrize(("written", "value"), {".5": 0.5, "5e-2": 0.05, "1e-1": 0.1, "0x1": 1.0, "1.": 1.0}.items())
def test_fractions_are_those_of_yaml_1_2(written, value):
    assert load_config(None, [*HOPPER, f"algo.learning_rate={written}"]).algo.learning_rate == value


def test_words_that_are_truth_values_in_yaml_1_1_are_words(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("task: {name: hopper}\ntracking: {name: no, group: 0o17, tensorboard: on}\n")
    tracking = load_config(str(path)).tracking
    assert (tracking.name, tracking.group, tracking.tensorboard) == ("no", "0o17", True)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "seed: 1\ntask: [hopper\nalgo: 3",
            r"mine.yaml is not valid YAML: line 3, column 5: expected .* begins in line 2\.",
        ),
        ("seed: 1\nseed: 2", "line 2, column 1: found duplicate key seed"),
        ("seed: 1\n\talgo: 2", "line 2, column 1: found character"),
        ("task: {name: hopper}\nalgo: {population: 1}", "mine.yaml: algo.population=1: must be at least 2"),
        ("task: {name: hopper}\nalgo: {es: {eps: 1}}", "mine.yaml: unknown key 'algo.es.eps'"),
        ("task: {name: hopper}\nalgo: {es: 1}", "expected a section with keys that hold for es alone, got '1'"),
        ("- hopper", "not a configuration"),
        ("hopper", "not a configuration"),
        ("1", "not a configuration"),
        ("seed: 1\n? [a]\n: 1", "line 2, column 3: found unhashable key"),
        ("task: &a [*a]", "not valid YAML: an alias is inside the collection that it names"),
        ("task: {name: hopper}\nalgo: {nam: ec}", "Did you mean 'algo.name'"),
        ("", "--task"),
        ("algo.population: 5", r"Write algo: \{population: \.\.\.\}\."),
        ("algo: {es.sigma: 1}", r"unknown key 'algo.es.sigma': .* Write es: \{sigma: \.\.\.\}\."),
        ("\x00", "not valid YAML"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(str(path))


def test_a_missing_file_and_a_missing_preset_are_told_apart(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_config(str(tmp_path / "mine.yaml"))
    with pytest.raises(ConfigError, match=r"unknown preset 'labtop'. Did you mean 'laptop'.*\./labtop.yaml"):
        load_config("labtop")


def test_a_directory_is_not_a_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(f"{tmp_path}/")


def test_the_last_override_wins_over_the_file():
    config = load_config("laptop", ["seed=3", "seed=4", "algo.population=64"])
    assert (config.seed, config.algo.population) == (4, 64)


def test_an_error_of_an_override_does_not_name_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("algo: {population: 64}")
    with pytest.raises(ConfigError, match=r"^algo.population=1: must be"):
        load_config(str(path), [*HOPPER, "algo.population=1"])


def test_a_file_may_have_keys_for_one_strategy_or_network_alone(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("algo: {learning_rate: 1, ec: {learning_rate: 2}}\nnetwork: {gru: {num_neurons: 3}}")
    learned = {
        algo: load_config(str(path), [*HOPPER, f"algo.name={algo}", "algo.population=8"]) for algo in names("strategy")
    }
    assert {algo: config.algo.learning_rate for algo, config in learned.items()} == {"ec": 2, "es": 1}
    sizes = [load_config(str(path), [*HOPPER, f"network.name={name}"]).network.num_neurons for name in ("gru", "mlp")]
    assert sizes == [3, 256]
    assert load_config(str(path), [*HOPPER, "algo.learning_rate=5"]).algo.learning_rate == 5


def test_the_laptop_preset_leaves_other_strategies_their_published_step():
    assert load_config("laptop").algo.learning_rate == 0.1
    assert load_config("laptop", ["algo.name=es"]).algo.learning_rate is None


@pytest.mark.parametrize("text", ["007", "1e5", "no", "0x1F", "2020-01-01", "12:30:00", "it's", "+1", "1_000", "😀"])
def test_values_that_are_text_stay_as_they_are_written(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(f"tracking:\n  name: {text} # a comment\n  entity: &same {text}\n  project: *same\n")
    from_file = load_config(str(path), HOPPER).tracking
    assert (from_file.name, from_file.entity, from_file.project) == (text, text, text)
    config = load_config(None, [*HOPPER, f"tracking.name={text}"])
    assert config.tracking.name == text
    assert config_from_yaml(config_to_yaml(config)) == config


@pytest.mark.parametrize("text", ["a #b", "a: b", "@x", "[1, 2"])
def test_a_text_on_the_command_line_needs_no_quotes(text):
    assert load_config(None, [*HOPPER, f"tracking.name={text}"]).tracking.name == text


@pytest.mark.parametrize(
    ("algo", "rate"), [("ec", 0.25), ("es", find("strategy", "es").default_config().learning_rate)]
)
def test_keys_for_one_strategy_may_stand_on_the_command_line(algo, rate):
    overrides = [*HOPPER, f"algo.name={algo}", "algo.ec.learning_rate=0.25"]
    assert load_config(None, overrides).algo.learning_rate == rate


def test_a_run_is_never_given_another_strategy_or_network():
    with pytest.raises(ConfigError, match="algo.name=es: the run has algo.name=ec"):
        override_config(load_config("laptop"), ["algo.name=es", "network.name=lstm"])


def test_what_a_run_is_given_is_read_as_in_the_first_place():
    config = load_config("laptop")
    assert override_config(config, ["algo.ec.generations=7"]).algo.generations == 7
    with pytest.raises(ConfigError, match="cannot be merged"):
        override_config(config, ["algo=[]"])


def test_a_list_where_a_section_is_expected_is_said(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("algo: [1, 2]\n")
    with pytest.raises(ConfigError, match="cannot be merged"):
        load_config(str(path), [*HOPPER, "algo.population=4"])


def test_a_text_that_is_null_is_none():
    assert load_config(None, [*HOPPER, "tracking.name=x", "tracking.name=null"]).tracking.name is None


def test_a_configuration_survives_being_written_and_read(tmp_path):
    config = load_config("laptop", ["seed=7", "engine.block=16", "network.tau_syn_ms=4.5"])
    write_config(config, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config


def test_overriding_checks_again():
    config = load_config("laptop")
    assert override_config(config, ["algo.generations=7"]).algo.generations == 7
    with pytest.raises(ConfigError):
        override_config(config, ["algo.generations=0"])


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_opens_with_its_command_result_and_hardware(preset):
    head = (config_dir() / f"{preset}.yaml").read_text().split("\ntask:")[0].split("\nalgo:")[0]
    assert head.startswith(f"# evoconn train --config {preset}")
    assert "Result" in head
    assert "core" in head or "GPU" in head


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_loads_with_any_task(preset):
    assert load_config(preset, ["task.name=walker2d"]).task.name == "walker2d"


def test_the_paper_preset_has_every_published_value():
    config = load_config("paper", ["task.name=humanoid"])
    assert config.algo == load_config(None, HOPPER).algo
    assert (config.algo.population, config.algo.num_evaluation_copies, config.algo.generations) == (10240, 128, 1000)
    assert (config.rollout.fitness, config.rollout.resets, config.rollout.normalizer) == (
        "until_slowest",
        "fixed",
        "last_step",
    )


@pytest.mark.parametrize("population, copies", [(10240, 128), (64, 4), (800, 10), (7, 4)])
def test_evaluation_copies_follow_the_population_unless_given(population, copies):
    config = load_config(None, [*HOPPER, f"algo.population={population}"])
    assert config.algo.num_evaluation_copies == copies
    assert config.algo.num_members == population - copies


@pytest.mark.parametrize(
    "overrides, pair",
    [
        ([], ("ec", "conn_snn")),
        (["algo.name=es"], ("es", "lstm")),
        (["network.name=gru"], ("es", "gru")),
        (["network.name=conn_snn"], ("ec", "conn_snn")),
        (["algo.name=es", "network.name=dense_snn"], ("es", "dense_snn")),
    ],
)
def test_strategy_and_network_follow_from_each_other(overrides, pair):
    config = load_config("paper", [*HOPPER, *overrides])
    assert (config.algo.name, config.network.name) == pair


def test_every_key_is_documented():
    for key, _, field in walk(load_config("laptop")):
        assert field.metadata["doc"], key
        assert key.endswith("_ms") == (field.metadata["unit"] == "ms"), key
