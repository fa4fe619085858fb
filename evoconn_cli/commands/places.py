"""The places of `launch-grid --on`."""

from __future__ import annotations

from typing import NamedTuple

from evoconn_cli.commands.opened_grid import OpenedGrid
from evoconn_cli.commands.options import PLACES
from evoconn_cli.errors import ConfigError, unknown_name
from evoconn_cli.grid.devices import Note
from evoconn_cli.grid.places import Place


class PlaceOptions(NamedTuple):
    """What the command line says about the place."""

    on: str
    devices: str | None  # of local
    wait: bool  # of slurm
    address: str | None  # of ray

    def check(self) -> None:
        """Checks that the place exists and has the options that are given.

        Raises:
            ConfigError: it does not.
        """
        if self.on not in PLACES:
            raise unknown_name("place:", self.on, PLACES)
        if self.devices is not None and self.on != "local":
            raise ConfigError("--devices goes with --on local: elsewhere the scheduler chooses them.")
        if self.wait and self.on != "slurm":
            raise ConfigError("--wait goes with --on slurm: launch-grid waits elsewhere anyway.")
        if self.address is not None and self.on != "ray":
            raise ConfigError("--address goes with --on ray.")

    @property
    def hands_over(self) -> bool:
        """Whether the cells go on when launch-grid has ended."""
        return self.on == "slurm" and not self.wait


def open_place(opened: OpenedGrid, options: PlaceOptions, note: Note) -> Place:
    """Returns the place that the options name."""
    launch = opened.file.launch
    if options.on == "slurm":
        from evoconn_cli.grid.slurm import Slurm

        return Slurm(opened.file.name, opened.directory, launch, wait=options.wait)
    if options.on == "ray":
        from evoconn_cli.grid.ray_pool import RayPool

        return RayPool(launch, options.address)
    from evoconn_cli.grid.local import LocalPool
    from evoconn_cli.grid.machine import find_devices

    return LocalPool(launch, find_devices(launch, options.devices, note))
