"""Starting JAX with the devices of a run."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import jax

from evoconn_cli.engine.mesh import Device, WorkerMesh, make_worker_mesh
from evoconn_cli.engine.state import KEY_IMPLEMENTATION
from evoconn_cli.errors import ConfigError, first_line

_NEVER = 10_000_000  # [s], four months
_XLA_FLAGS = {
    # XLA compiles a loop that moves less data than this [bytes an iteration] to one function; otherwise every
    # operation in it is dispatched on its own. It makes the sub-steps of a spiking network three times as fast.
    "xla_backend_extra_options": "xla_cpu_small_while_loop_byte_threshold=4000000",
    # A device waits for the others to the end of a generation, be it that it has fewer members left or a slower core.
    # XLA takes that for a deadlock after a minute, half an hour between processes, and ends the process.
    "xla_cpu_collective_call_warn_stuck_timeout_seconds": _NEVER,
    "xla_cpu_collective_call_terminate_timeout_seconds": _NEVER,
    "xla_cpu_collective_timeout_seconds": _NEVER,
    "xla_gpu_first_collective_call_warn_stuck_timeout_seconds": _NEVER,
    "xla_gpu_first_collective_call_terminate_timeout_seconds": _NEVER,
    "xla_gpu_executable_warn_stuck_timeout": _NEVER,
    "xla_gpu_executable_terminate_timeout": _NEVER,
}


def start_jax(num_devices: int | None, *, num_processes: int = 1) -> WorkerMesh:
    """Returns the devices that a run uses: the first `num_devices` of the fastest platform, or all of them.

    On a CPU one XLA host device a core is started, which must happen before anything else of JAX runs.

    Args:
        num_devices: of each process.
        num_processes: that train together, and have joined before.

    Raises:
        ConfigError: more devices are asked for than there are, or the platform that JAX was told does not start.
    """
    several = num_processes > 1
    _fix_arithmetic()
    try:
        configured = jax.config.values["jax_num_cpu_devices"]
        wanted = num_devices or num_cores()
        jax.config.update("jax_num_cpu_devices", wanted if several else max(wanted, 2, configured))
    except RuntimeError:
        pass  # JAX runs already, as it does in a notebook: take the devices that it has
    set_xla_flags()
    _use_compilation_cache()
    try:
        devices = jax.devices() if several else jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # the latter where a platform that was asked for is not there
        reason = (
            first_line(error)
            if str(error)
            else f"it finds no device for JAX_PLATFORMS={jax.config.values['jax_platforms']}"
        )
        raise ConfigError(f"JAX does not start: {reason}. Look at JAX_PLATFORMS and at the driver.") from None
    if several:
        return make_worker_mesh(_first_of_each_process(devices, num_devices))
    workers = num_devices or (min(num_cores(), len(devices)) if devices[0].platform == "cpu" else len(devices))
    if workers > len(devices):
        raise ConfigError(
            f"engine.devices={workers}: this machine has {len(devices)} {devices[0].platform} device"
            f"{'s' * (len(devices) != 1)}. Ask for at most so many, or leave it out to use all."
        )
    return make_worker_mesh(devices, workers)


def _first_of_each_process(devices: list[Device], num_devices: int | None) -> list[Device]:
    """Returns the first `num_devices` of each process, or all of them, ordered by process."""
    by_process = sorted(devices, key=lambda device: (device.process_index, device.id))
    chosen = []
    for process, group in itertools.groupby(by_process, key=lambda device: device.process_index):
        its = list(group)
        if num_devices is not None and num_devices > len(its):
            raise ConfigError(
                f"engine.devices={num_devices}: process {process} has {len(its)} {its[0].platform} device"
                f"{'s' * (len(its) != 1)}. Ask for at most so many a process, or leave it out to use all."
            )
        chosen += its[:num_devices]
    return chosen


def _fix_arithmetic() -> None:
    """Puts back those switches of JAX with which a run would be another one, whatever the environment says."""
    jax.config.update("jax_default_prng_impl", KEY_IMPLEMENTATION)
    jax.config.update("jax_threefry_partitionable", True)
    jax.config.update("jax_enable_x64", False)
    jax.config.update("jax_default_matmul_precision", "highest")  # GPUs would round to 10 bits of 23


def set_xla_flags() -> None:
    """Sets those options of XLA that the environment does not; XLA reads them once, before its first program."""
    flags = os.environ.get("XLA_FLAGS", "")
    missing = [f"--{name}={value}" for name, value in _XLA_FLAGS.items() if name not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *missing]).strip()


def num_cores() -> int:
    """Returns how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_devices(workers: WorkerMesh) -> str:
    """Returns the devices in words, such as `2 x cpu` or `1 x NVIDIA H100`."""
    return f"{workers.num_workers} x {workers.first_device.device_kind}"


def _use_compilation_cache() -> None:
    """Lets XLA keep compiled programs in the user's cache directory, unless JAX was told another place or other ones.

    Small ones too: a start has some thirty, which take a second together.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "evoconn" / "jax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
