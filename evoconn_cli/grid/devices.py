"""What cells run on here: GPUs, parts of GPUs, or groups of cores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Note: TypeAlias = Callable[[str], None]
"""Is told in a sentence what the user has to know."""

_MEMORY = 0.9
"""Share of a GPU's memory that all of its runs may take together."""


@dataclass(frozen=True)
class Device:
    """A GPU, a part of one, or a group of cores.

    Attributes:
        name: as the user knows it, such as `gpu 3` or `cores 0-3`.
        locks: names of the locks that keep launchers apart.
        variables: names and values of the environment variables that show the device to a process.
        cores: that a process is kept on; empty for any.
        capacity: runs at a time.
    """

    name: str
    locks: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]
    cores: tuple[int, ...] = ()
    capacity: int = 1

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables as a mapping."""
        return dict(self.variables)


def memory_variables(runs: int) -> dict[str, str]:
    """Returns the environment variables with which so many runs share the memory of a GPU."""
    return {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{_MEMORY / runs:.3f}"} if runs > 1 else {}


class Devices(Protocol):
    """The devices of this machine that cells may use."""

    def all(self) -> list[Device]:
        """Returns every one, busy or not."""
        ...

    def idle(self, held: Set[Device], note: Note) -> list[Device]:
        """Returns those that nothing else uses, without those that the caller holds.

        Args:
            held: devices that the caller uses.
            note: is told of devices that fail.
        """
        ...
