"""The keys of a run, as OmegaConf structured configs; `docs/configuration.md` is generated from them."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import Any

from evoconn_cli.config.fields import MEASURED, MISSING, TEXT, option, own, published, walk
from evoconn_cli.config.numbers import as_float32
from evoconn_cli.config.registry import WANDB_MODES, Kind, entries, find, names
from evoconn_cli.errors import ConfigError

CHOSEN_BY_NAME: dict[str, Kind] = {"task": "task", "algo": "strategy", "network": "network"}
"""Sections whose keys depend on what is chosen by their `name`, and what that is in the registry."""

MOST_NEURONS = 16_384
"""The recurrent weights of four LSTM gates with this many neurons can still be counted in 32 bits."""


@dataclass(frozen=True)
class TaskConfig:
    """The task to learn."""

    name: str = option(MISSING, "name of the task", choices=functools.partial(names, "task"))
    episode_length: int = published(1000, "longest episode", unit="steps", low=1)
    action_repeat: int = published(1, "physics steps that one action lasts", unit="steps", low=1)


@dataclass(frozen=True)
class AlgoConfig:
    """Keys of all strategies."""

    name: str = option(MISSING, "name of the strategy", choices=functools.partial(names, "strategy"))
    population: int = published(10240, "members per generation, including evaluation copies", low=2, high=1_000_000)
    evaluation_copies: int | None = published(
        None, "members that are the deterministic network; null: one in 80, as published, and at least 4", low=1
    )
    generations: int = published(1000, "generations of the run", low=1)
    target_fitness: float | None = own(None, "end when the smoothed evaluation fitness reaches this")
    patience: int | None = own(
        None, "end after this many without a new high of the smoothed evaluation", unit="generations", low=1
    )
    max_env_steps: int | None = own(
        None, "end when env_steps of metrics.jsonl reaches this", unit="steps", low=1, high=2**53
    )
    shaping: str = published(
        "centered_rank",
        "weights of the members: centred ranks, or the logarithm of the place, by which the best count most",
        choices=("centered_rank", "log_rank"),
    )
    shaping_generations: int | None = published(
        None, "generations for which algo.shaping applies, then centred ranks; null: all", low=1
    )
    adam_beta1: float = published(0.9, "decay of Adam's first moment", low=0, below=1)
    adam_beta2: float = published(0.999, "decay of Adam's second moment", low=0, below=1)
    adam_eps: float = published(1e-8, "Adam's epsilon", above=0)

    @property
    def num_evaluation_copies(self) -> int:
        """Members that are the deterministic network."""
        return max(4, self.population // 80) if self.evaluation_copies is None else self.evaluation_copies

    @property
    def num_members(self) -> int:
        """Members that are sampled, not evaluation copies (M)."""
        return self.population - self.num_evaluation_copies

    def check(self, network: str) -> None:
        """Raises a ConfigError if values that are allowed by themselves do not go together, for a network's name."""
        copies = self.num_evaluation_copies
        if self.num_members < 2:
            raise ConfigError(
                f"algo.population={self.population}: {copies} of them are evaluation copies, so at least {copies + 2} "
                "are needed. Raise it, or lower algo.evaluation_copies."
            )


@dataclass(frozen=True)
class EcConfig(AlgoConfig):
    """Evolving connectivity: Bernoulli probabilities moved by natural evolution strategies."""

    learning_rate: float = published(0.15, "step size of Adam on the probabilities", above=0)
    eps: float = published(
        1e-3,
        "probabilities stay within [eps, 1 - eps]; below 2^-16 a connection would never be drawn again",
        low=2**-16,
        below=0.5,
    )
    weight_decay: float = published(0.0, "decay of the probabilities toward 0 (sparsity)", low=0)
    initial_prob: float = published(0.5, "all probabilities at generation 0", above=0, below=1)
    initial_certainty: float = published(
        0.0,
        "share of the way from initial_prob to a random connectome, or that of --init (0.9 there), at which "
        "probabilities start; 0: all are equal",
        low=0,
        high=1,
    )
    initial_connectome: str | None = own(
        None, "SHA-256, 12 digits, of the connectome that the run starts from; only --init sets it"
    )

    def check(self, network: str) -> None:
        """Checks the initial probability, too."""
        super().check(network)
        if not self.eps <= self.initial_prob <= 1 - self.eps:
            raise ConfigError(
                f"algo.initial_prob={self.initial_prob}: must be from algo.eps to 1 - algo.eps, {self.eps} to "
                f"{1 - self.eps}."
            )


@dataclass(frozen=True)
class EsConfig(AlgoConfig):
    """Evolution strategies on real weights: antithetic Gaussian perturbations and AdamW."""

    sigma: float | None = published(None, "standard deviation of the perturbations; null: as published", above=0)
    learning_rate: float | None = published(None, "step size of AdamW; null: as published", above=0)
    weight_decay: float = published(0.1, "decay of the weights toward 0, times the step size", low=0)

    def check(self, network: str) -> None:
        """Checks that members come in pairs, and that values that are null are published."""
        super().check(network)
        if self.num_members % 2:
            raise ConfigError(
                f"algo.population={self.population}: es perturbs in pairs, so the {self.num_members} members beside "
                f"the {self.num_evaluation_copies} evaluation copies must be even in number. Change either."
            )
        for key in ("sigma", "learning_rate"):
            if getattr(self, key) is None and key not in find("network", network).published.get(self.name, {}):
                raise ConfigError(f"algo.{key}=null: nothing is published for the network {network}. Give a number.")


@dataclass(frozen=True)
class NetworkConfig:
    """Keys of all networks."""

    name: str = option(MISSING, "name of the network", choices=functools.partial(names, "network"))
    num_neurons: int = published(256, "recurrent neurons", low=1, high=MOST_NEURONS)

    def check(self) -> None:
        """Raises a ConfigError if values that are allowed by themselves do not go together."""


@dataclass(frozen=True)
class SpikingConfig(NetworkConfig):
    """Keys of the spiking networks: gains, and constants of the neurons."""

    gain_in: float = published(0.1, "K_in, gain of the input layer", above=0)
    gain_recurrent: float = published(1.0, "K_h, gain of the recurrent layer", above=0)
    gain_out: float = published(5.0, "K_out, gain of the output layer", above=0)
    tau_syn_ms: float = published(5.0, "synaptic time constant", unit="ms", above=0)
    tau_m_ms: float = published(10.0, "membrane time constant", unit="ms", above=0)
    tau_out_ms: float = published(10.0, "time constant of the read-out rate", unit="ms", above=0)
    dt_ms: float = published(0.5, "length of a sub-step", unit="ms", above=0)
    step_ms: float = published(16.6, "network time of an environment step", unit="ms", above=0)
    v_rest: float = published(0.0, "resting and reset potential")
    v_threshold: float = published(1.0, "firing threshold")

    def check(self) -> None:
        """Checks potentials and sub-steps."""
        if as_float32(self.v_threshold) <= as_float32(self.v_rest):
            raise ConfigError(f"network.v_threshold={self.v_threshold}: must be above network.v_rest={self.v_rest}.")
        substeps = round(self.step_ms / self.dt_ms)
        if substeps >= 2**31:
            raise ConfigError(
                f"network.step_ms={self.step_ms} over network.dt_ms={self.dt_ms}: the sub-steps of an environment step "
                f"are counted in 32 bits and must be fewer than {2**31}."
            )
        if substeps < 1:
            raise ConfigError(
                f"network.dt_ms={self.dt_ms}: must be at most network.step_ms={self.step_ms}, so that an environment "
                "step has at least one sub-step."
            )


@dataclass(frozen=True)
class ConnSnnConfig(SpikingConfig):
    """Boolean recurrent spiking network with excitatory and inhibitory neurons (Conn-RSNN)."""

    excitatory_ratio: float = published(0.5, "share of excitatory neurons", low=0, high=1)
    expected_density: float = published(0.5, "density for which the gains are normalised", above=0, high=1)
    wiring: float = published(
        1.0,
        "share of all connections, drawn at random with the seed, that can form; gains are normalised for it",
        above=0,
        high=1,
    )


@dataclass(frozen=True)
class DenseSnnConfig(SpikingConfig):
    """The same neurons with real weights and without types (Dense-RSNN)."""


@dataclass(frozen=True)
class LstmConfig(NetworkConfig):
    """An LSTM cell and a dense read-out."""

    num_neurons: int = published(128, "size of the cell", low=1, high=MOST_NEURONS)


@dataclass(frozen=True)
class RolloutConfig:
    """How fitness is measured. The published behaviours are until_slowest, fixed and last_step."""

    fitness: str = option(
        "first_episode",
        "return of the first episode, or mean return of all episodes until the slowest member has ended one",
        choices=("first_episode", "until_slowest"),
        source=MEASURED,
    )
    resets: str = published(
        "fixed", "initial states: the same in all generations, or new ones in each", choices=("fixed", "fresh")
    )
    normalizer: str = option(
        "all_steps",
        "observations that update the normaliser: those of all steps that count for fitness, or of the last step",
        choices=("all_steps", "last_step"),
        source=MEASURED,
    )
    alive_bonus: float = published(
        1.0,
        "share of the task's bonus for not falling that counts when members are ranked; reports have the whole return",
        low=0,
        high=1,
    )
    alive_bonus_generations: int | None = published(
        None, "generations for which rollout.alive_bonus applies, then the whole bonus counts; null: all", low=1
    )
    warmup_steps: int = published(0, "steps that settle the network before an episode", unit="steps", low=0)

    def check(self) -> None:
        """Raises a ConfigError if values that are allowed by themselves do not go together."""
        if self.alive_bonus != 1 and self.fitness != "first_episode":
            raise ConfigError(
                f"rollout.alive_bonus={self.alive_bonus}: the bonus can be left out of the first episode only. Set "
                "rollout.fitness=first_episode, or rollout.alive_bonus=1."
            )
        if self.alive_bonus == 1 and self.alive_bonus_generations is not None:
            raise ConfigError(
                f"rollout.alive_bonus_generations={self.alive_bonus_generations}: the whole bonus counts anyway. Set "
                "rollout.alive_bonus below 1, too."
            )


@dataclass(frozen=True)
class EngineConfig:
    """How the machine is used. Devices and kernel do not shape a run; another block rounds differently."""

    devices: int | None = own(None, "devices per process; null: all (on CPUs, one per core)", low=1)
    block: int | None = own(None, "members simulated in lock-step; null: depends on the platform", low=1)
    kernel: str = own(
        "auto",
        "program for the sub-steps of conn_snn; auto: the GPU kernel if a check at the start finds it equal to XLA",
        choices=("auto", "xla", "pallas"),
    )


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are saved and which are kept."""

    every: int = published(50, "generations between checkpoints; the last is saved, too", unit="generations", low=1)
    minutes: float = own(10.0, "also save when this long has passed since the last checkpoint", unit="min", above=0)
    keep_last: int = own(2, "number of newest checkpoints to keep", low=1)
    keep_every: int = own(200, "also keep checkpoints of multiples of this", unit="generations", low=1)


@dataclass(frozen=True)
class TrackingConfig:
    """Where metrics go besides metrics.jsonl: Weights & Biases and TensorBoard."""

    wandb: str = own("auto", "auto: online with credentials, else offline", choices=WANDB_MODES)
    project: str | None = own(None, "W&B project; null: WANDB_PROJECT, or evoconn")
    entity: str | None = own(None, "W&B user or team; null: WANDB_ENTITY, or the account's own")
    group: str | None = own(None, "W&B group; null: WANDB_RUN_GROUP, if set")
    name: str | None = own(None, "W&B name of the run; null: WANDB_NAME, or that of its directory")
    tags: str = own("", "W&B tags, separated by commas; empty: WANDB_TAGS, if set")
    tensorboard: bool = own(False, "write TensorBoard event files to tensorboard/ in the run directory")
    video_every: int | None = own(None, "generations between short videos of checkpoints; null: none", low=1)


@dataclass(frozen=True)
class RunConfig:
    """The whole configuration of a run."""

    seed: int = own(0, "random seed", low=0, high=2**32 - 1)
    task: TaskConfig = field(default_factory=TaskConfig)
    algo: AlgoConfig = field(default_factory=lambda: entries("strategy")[0].default_config())
    network: NetworkConfig = field(default_factory=lambda: entries("network")[0].default_config())
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


def fields_of(key: str) -> list[dataclasses.Field]:
    """Returns the fields that a full key of a run may stand for, whatever task, strategy and network are chosen."""
    section, name = key.partition(".")[0], key.rpartition(".")[2]
    if section in CHOSEN_BY_NAME:
        kinds = {type(entry.default_config()) for entry in entries(CHOSEN_BY_NAME[section])}
    else:
        config = RunConfig()
        kinds = {type(getattr(config, section, None) if "." in key else config)}
    return [f for kind in kinds if dataclasses.is_dataclass(kind) for f in dataclasses.fields(kind) if f.name == name]


def is_text(key: str) -> bool:
    """Returns whether the values of a full key of a run are text, whatever they look like."""
    return any(f.type in TEXT for f in fields_of(key))


def what_seeds_share(config: RunConfig) -> dict[str, Any]:
    """Returns the keys and values that the runs of a sample of seeds share, other than the task."""
    apart = ("task.name", "algo.generations", "algo.target_fitness", "algo.patience", "algo.max_env_steps")
    sections = ("task.", "algo.", "network.", "rollout.")
    return {key: value for key, value, _ in walk(config) if key.startswith(sections) and key not in apart}


def most_steps(config: RunConfig) -> int:
    """Returns the environment steps of a generation in which every episode reaches its limit."""
    return config.algo.population * -(-config.task.episode_length // config.task.action_repeat)
