"""Groups of cores, where there is no GPU."""

from __future__ import annotations

from collections.abc import Sequence, Set

from evoconn_cli.grid.devices import Device, Note
from evoconn_cli.runs.limits import usable_cores


class CoreGroups:
    """The cores of this process in groups of equal size.

    A run in a group has as many XLA devices and threads as the group has cores, so that groups do not get in each
    other's way. Cores that are left over stay free.

    Args:
        cores_per_run: size of a group; all cores, where there are fewer.
        cores: their numbers; those of this process by default.
    """

    def __init__(self, cores_per_run: int, cores: Sequence[int] | None = None) -> None:
        available = usable_cores() if cores is None else list(cores)
        size = min(cores_per_run, len(available))
        starts = range(0, len(available) - size + 1, size)
        self._groups = [_group(available[start : start + size]) for start in starts]

    def all(self) -> list[Device]:
        """Returns every group."""
        return list(self._groups)

    def idle(self, held: Set[Device], note: Note) -> list[Device]:
        """Returns the groups that the caller does not hold; whether another launcher does, their locks tell."""
        del note
        return [group for group in self._groups if group not in held]


def _group(cores: Sequence[int]) -> Device:
    name = f"core {cores[0]}" if len(cores) == 1 else f"cores {_spans(cores)}"
    return Device(name, tuple(f"core-{core}" for core in cores), (("JAX_PLATFORMS", "cpu"),), tuple(cores))


def _spans(cores: Sequence[int]) -> str:
    """Returns `0-3,6` for 0, 1, 2, 3 and 6."""
    spans: list[list[int]] = []
    for core in cores:
        if spans and core == spans[-1][-1] + 1:
            spans[-1].append(core)
        else:
            spans.append([core])
    return ",".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans)
