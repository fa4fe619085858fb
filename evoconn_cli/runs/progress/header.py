"""What a run tells about itself before its first generation."""

from __future__ import annotations

from dataclasses import dataclass

from evoconn_cli.runs.progress.formatting import count


@dataclass(frozen=True)
class RunHeader:
    """What is trained, how large it is, and where it runs.

    Attributes:
        task: name of the task.
        network: name and size of the network, such as `conn_snn, 256 neurons`.
        strategy: name of the strategy.
        num_parameters: entries that the strategy searches over.
        population: members a generation, evaluation copies included.
        evaluation_copies: members that are the deterministic network.
        devices: the devices in words, such as `2 x cpu`.
        run_dir: the run directory.
        generations: generation at which the run ends.
        start_generation: 0, or the generation that the run was resumed from.
        most_steps: Environment steps of a generation in which every episode lasts to its limit; None if unknown.
    """

    task: str
    network: str
    strategy: str
    num_parameters: int
    population: int
    evaluation_copies: int
    devices: str
    run_dir: str
    generations: int
    start_generation: int = 0
    most_steps: int | None = None

    def rows(self) -> list[tuple[str, str]]:
        """Returns `(label, value)` pairs in the order to read them, the run directory last."""
        generations = count(self.generations)
        if self.start_generation:
            generations = f"{count(self.start_generation)} to {generations}, resumed"
        return [
            ("task", self.task),
            ("parameters", count(self.num_parameters)),
            ("network", self.network),
            ("population", f"{count(self.population)} ({count(self.evaluation_copies)} evaluate)"),
            ("strategy", self.strategy),
            ("generations", generations),
            ("devices", self.devices),
            ("run", self.run_dir),
        ]
