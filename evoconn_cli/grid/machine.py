"""The devices of this machine that a launcher may use: GPUs, or cores where there are none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import metadata

from evoconn_cli.config.launch import LaunchConfig
from evoconn_cli.errors import ConfigError
from evoconn_cli.grid.cores import CoreGroups
from evoconn_cli.grid.devices import Devices, Note
from evoconn_cli.grid.gpus import GpuDriver, open_driver
from evoconn_cli.grid.idle_gpus import IdleGpus
from evoconn_cli.grid.visible_gpus import chosen, visible

_INSTALL = "pip install 'jax[cuda13]', or 'jax[cuda12]' where the driver is older"


def find_devices(launch: LaunchConfig, names: str | None, note: Note) -> Devices:
    """Returns what cells run on.

    Args:
        launch: how many runs share a GPU, and how many cores a run has.
        names: GPUs as `visible_gpus.chosen` takes them, or `cpu`; None for all that are visible.
        note: is told why GPUs are left alone.

    Raises:
        ConfigError: `names` has a GPU that cannot be used.
    """
    return choose_devices(launch, names, note, open_driver(note), os.environ, has_jax_for_gpus=has_jax_for_gpus())


def choose_devices(
    launch: LaunchConfig,
    names: str | None,
    note: Note,
    driver: GpuDriver | None,
    environment: Mapping[str, str],
    *,
    has_jax_for_gpus: bool,
) -> Devices:
    """Returns what `find_devices` does, of what it has found.

    Args:
        launch: as there.
        names: as there.
        note: as there.
        driver: of the GPUs; None where there are none.
        environment: of this process.
        has_jax_for_gpus: whether JAX can use GPUs.

    Raises:
        ConfigError: as there.
    """
    if names == "cpu" or (names is None and environment.get("JAX_PLATFORMS", "").startswith("cpu")):
        return CoreGroups(launch.cores_per_run)
    gpus = visible(driver.gpus(note), environment.get("CUDA_VISIBLE_DEVICES")) if driver else []
    if names is not None:
        gpus = chosen(gpus, names)
    if gpus and not has_jax_for_gpus:
        if names is not None:
            raise ConfigError(f"--devices {names}: the JAX that is installed cannot use GPUs: {_INSTALL}.")
        note(f"there are GPUs, but the JAX that is installed cannot use them: {_INSTALL}. The cells run on cores.")
        gpus = []
    if driver is None or not gpus:
        return CoreGroups(launch.cores_per_run)
    return IdleGpus(driver, gpus, launch.runs_per_device)


def has_jax_for_gpus() -> bool:
    """Returns whether the JAX that is installed can use GPUs."""
    names = {(distribution.name or "").lower().replace("_", "-") for distribution in metadata.distributions()}
    return any(name.startswith("jax-cuda") and name.endswith("-plugin") for name in names)
