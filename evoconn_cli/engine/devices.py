"""Starts JAX with the devices and the arithmetic of a run."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

from evoconn_cli.engine.mesh import JaxDevice, WorkerMesh, make_worker_mesh
from evoconn_cli.engine.state import KEY_IMPLEMENTATION
from evoconn_cli.errors import ConfigError, DeviceMemoryError, first_line
from evoconn_cli.limits import cache_folder, usable_cores


@contextmanager
def memory_for(what: str, remedy: str) -> Iterator[None]:
    """Turns out-of-memory errors of a device or of this machine into a message.

    Args:
        what: What needs the memory, such as `blocks of 64 members`.
        remedy: What the user can do about it, in sentences.

    Raises:
        DeviceMemoryError: The memory was not enough.
    """
    try:
        yield
    except MemoryError:
        raise DeviceMemoryError(f"the memory of this machine is not enough for {what}. {remedy}") from None
    except (RuntimeError, ValueError) as error:
        text = str(error)
        if "RESOURCE_EXHAUSTED" not in text and "out of memory" not in text.lower():
            raise
        raise DeviceMemoryError(f"the device's memory is not enough for {what}. {remedy}") from None


P = ParamSpec("P")
R = TypeVar("R")

_NEVER = 10_000_000  # [s], four months
_XLA_FLAGS = {
    # XLA compiles a loop that moves less data than this [bytes per iteration] to one function; otherwise every
    # operation in it is dispatched on its own. This makes the sub-steps of a spiking network three times as fast.
    "xla_backend_extra_options": "xla_cpu_small_while_loop_byte_threshold=4000000",
    # A device waits for the others at the end of a generation, which may take long. After a minute, half an hour
    # between processes, XLA takes that for a deadlock and ends the process.
    "xla_cpu_collective_call_warn_stuck_timeout_seconds": _NEVER,
    "xla_cpu_collective_call_terminate_timeout_seconds": _NEVER,
    "xla_cpu_collective_timeout_seconds": _NEVER,
    "xla_gpu_first_collective_call_warn_stuck_timeout_seconds": _NEVER,
    "xla_gpu_first_collective_call_terminate_timeout_seconds": _NEVER,
    "xla_gpu_executable_warn_stuck_timeout": _NEVER,
    "xla_gpu_executable_terminate_timeout": _NEVER,
}


_SWITCHES: dict[str, Any] = {
    "default_prng_impl": KEY_IMPLEMENTATION,
    "threefry_partitionable": True,
    "random_seed_offset": 0,
    "enable_x64": False,
    "default_matmul_precision": "highest",  # GPUs would round to 10 bits of 23
    "numpy_dtype_promotion": "standard",
    "numpy_rank_promotion": "allow",
    "disable_jit": False,
    "disable_most_optimizations": False,
    "debug_nans": False,  # members that fail have some, which is no error
    "debug_infs": False,
    "debug_key_reuse": False,
    "check_tracer_leaks": False,
    "legacy_prng_key": "allow",
    "transfer_guard": "allow",
}
"""Switches of JAX that a run sets whatever the environment or a host program says: others change or break it."""


_CACHE = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
"""Settings of the compilation cache that a run makes."""


_OTHER_FLAGS = (
    "xla_dump_",
    "xla_force_host_platform_device_count",
    "xla_hlo_profile",
    "xla_gpu_cuda_data_dir",
    "xla_gpu_force_compilation_parallelism",
)
"""Prefixes of XLA options about where to write and how to compile, which do not affect numbers."""


def start_jax(num_devices: int | None, *, num_processes: int = 1) -> WorkerMesh:
    """Returns the devices of a run: the first `num_devices` of the fastest platform, by default all.

    On a CPU it starts one XLA host device per core, which must happen before anything else of JAX runs.

    Args:
        num_devices: Number of devices of each process.
        num_processes: Number of processes that train together; they have joined already.

    Raises:
        ConfigError: More devices are configured than there are, or the configured platform of JAX does not start.
    """
    several, num_cores = num_processes > 1, len(usable_cores())
    for name, value in _known_switches():
        if jax.config.values[f"jax_{name}"] != value:  # they hold already within `our_arithmetic`, in this thread only
            jax.config.update(f"jax_{name}", value)
    try:
        configured = jax.config.values["jax_num_cpu_devices"]
        wanted = num_devices or num_cores
        jax.config.update("jax_num_cpu_devices", wanted if several else max(wanted, 2, configured))
    except RuntimeError:
        pass  # JAX is already running, as in a notebook: use the devices that it has
    set_xla_flags()
    _use_compilation_cache()
    try:
        devices = jax.devices() if several else jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # the latter if a configured platform is missing
        none_found = f"it finds no device for JAX_PLATFORMS={jax.config.values['jax_platforms']}"
        reason = first_line(error) if str(error) else none_found
        raise ConfigError(f"JAX does not start: {reason}. Check JAX_PLATFORMS and the driver.") from None
    if several:
        return make_worker_mesh(_first_of_each_process(devices, num_devices))
    workers = num_devices or (min(num_cores, len(devices)) if devices[0].platform == "cpu" else len(devices))
    _check_number(workers, devices, "this machine")
    return make_worker_mesh(devices, workers)


def _first_of_each_process(devices: list[JaxDevice], num_devices: int | None) -> list[JaxDevice]:
    """Returns the first `num_devices` of each process, by default all, ordered by process."""
    by_process = sorted(devices, key=lambda device: (device.process_index, device.id))
    chosen = []
    for process, group in itertools.groupby(by_process, key=lambda device: device.process_index):
        its = list(group)
        _check_number(num_devices or 1, its, f"process {process}")
        chosen += its[:num_devices]
    return chosen


def _check_number(wanted: int, devices: list[JaxDevice], owner: str) -> None:
    if wanted > len(devices):
        raise ConfigError(
            f"engine.devices={wanted}: {owner} has {len(devices)} {devices[0].platform} device"
            f"{'s' * (len(devices) != 1)}. Set at most {len(devices)}, or leave it out to use all."
        )


@contextmanager
def host_program() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Computes as a run does within a host program, and leaves JAX's settings and the environment as they were.

    Only the number of CPU devices stays, if JAX starts here.

    Yields:
        A context with the switches of the host program, for its own functions.
    """
    flags, cache = os.environ.get("XLA_FLAGS"), {name: jax.config.values[name] for name in _CACHE}
    switches = {name: jax.config.values[f"jax_{name}"] for name, _ in _known_switches()}
    set_xla_flags()
    ours = os.environ["XLA_FLAGS"]
    try:
        with our_arithmetic():
            yield lambda: our_arithmetic(switches)
    finally:
        if flags is None and os.environ.get("XLA_FLAGS") == ours:
            del os.environ["XLA_FLAGS"]
        elif flags is not None:
            os.environ["XLA_FLAGS"] = flags
        if any(jax.config.values[name] != value for name, value in cache.items()):
            for name, value in cache.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()  # JAX goes on with a cache that it has opened


@contextmanager
def our_arithmetic(switches: Mapping[str, Any] = MappingProxyType(_SWITCHES)) -> Iterator[None]:
    """Sets the switches of JAX as in a run, in this thread; a host program may have other ones.

    Arrays of 64 bits must be converted before.

    Args:
        switches: Other values for them.
    """
    with ExitStack() as entered:
        for name, value in _known_switches(switches):
            if (switch := getattr(jax, name, None)) is not None:
                entered.enter_context(switch(value))
            elif jax.config.values[f"jax_{name}"] != value:  # JAX can set these only for all threads
                entered.callback(jax.config.update, f"jax_{name}", jax.config.values[f"jax_{name}"])
                jax.config.update(f"jax_{name}", value)
        yield


def _known_switches(switches: Mapping[str, Any] = MappingProxyType(_SWITCHES)) -> list[tuple[str, Any]]:
    """Returns the switches that this version of JAX has; JAX removes some once their new value is the only one."""
    return [(name, value) for name, value in switches.items() if f"jax_{name}" in jax.config.values]


def in_our_arithmetic(function: Callable[P, R]) -> Callable[P, R]:
    """Returns `function`, called within `our_arithmetic` and with 64-bit floats converted to 32 bits."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        args, kwargs = jax.tree.map(_in_32_bits, (args, kwargs))
        with our_arithmetic():
            return function(*args, **kwargs)

    return call


def _in_32_bits(x: Any) -> Any:
    return x.astype(jnp.float32) if isinstance(x, jax.Array) and x.dtype == jnp.float64 else x


def set_xla_flags() -> None:
    """Sets the options of XLA that the environment leaves open; XLA reads them once, before its first program.

    Raises:
        ConfigError: XLA_FLAGS names a file that cannot be read.
    """
    flags = os.environ.get("XLA_FLAGS", "").strip()
    if flags and not flags.startswith("-"):  # for XLA this is a file with the flags
        try:
            flags = " ".join(Path(flags).read_text(encoding="utf-8").split())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"XLA_FLAGS={flags}: XLA takes that for a file with its flags, which cannot be read "
                f"({getattr(error, 'strerror', None) or 'not UTF-8'}). Begin the flags with --, or name another file."
            ) from None
    missing = [f"--{name}={value}" for name, value in _XLA_FLAGS.items() if name not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *missing]).strip()


def arithmetic_variables() -> dict[str, str]:
    """Returns the environment variables that may change how devices round, with their values."""
    flags = [
        flag
        for flag in os.environ.get("XLA_FLAGS", "").split()
        if not flag.lstrip("-").startswith((*_XLA_FLAGS, *_OTHER_FLAGS))
    ]
    given = {"XLA_FLAGS": " ".join(flags), "NVIDIA_TF32_OVERRIDE": os.environ.get("NVIDIA_TF32_OVERRIDE", "")}
    return {name: value for name, value in given.items() if value}


def describe_devices(workers: WorkerMesh) -> str:
    """Returns the devices in words, such as `2 x cpu` or `1 x NVIDIA H100`."""
    return f"{workers.num_workers} x {workers.first_device.device_kind}"


def _use_compilation_cache() -> None:
    """Makes XLA keep compiled programs in the user's cache directory, unless JAX is configured otherwise.

    Without a home directory, as in some containers, none are kept. Small programs are kept too: a start has about
    thirty, which take a second together.
    """
    folder = cache_folder()
    if jax.config.values["jax_compilation_cache_dir"] is None and folder is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
