"""Cores, memory and cache of this process, as the operating system, its container and its user limit them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_CGROUPS, _OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> list[int]:
    """Returns the cores that this process may run on; with a quota, as many of the first as it allows."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = sorted(os.sched_getaffinity(0)) if has_affinity else list(range(os.cpu_count() or 1))
    quota = cpu_quota()
    return cores if quota is None else cores[: max(1, int(quota))]


def processor() -> str:
    """Returns the model of the CPUs, or their architecture if the system does not name one."""
    lines = _read(Path("/proc/cpuinfo")).splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cpu_quota() -> float | None:
    """Returns the CPU time that the control groups of this process allow [cores]; None without a limit."""
    quotas = []
    for folder in _folders("cpu"):
        quota, period = (_read(folder / "cpu.max").split() or [_read(folder / "cpu.cfs_quota_us"), ""])[:2]
        period = period or _read(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):  # neither `max` nor -1
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def usable_memory() -> int:
    """Returns the memory of the machine, or less if control groups limit this process [bytes]."""
    texts = (_read(folder / name) for folder in _folders("memory") for name in ("memory.max", "memory.limit_in_bytes"))
    limits = [int(text) for text in texts if text.isdecimal()]
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *limits])


def cache_folder() -> Path | None:
    """Returns the folder of JAX's compiled programs, unless a program sets another; None without a home directory."""
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return Path(given) if given else caches / "evoconn" / "jax" if caches.is_absolute() else None


def _folders(controller: str) -> Iterator[Path]:
    """Yields the folders of the control groups, version 1 or 2, that limit this process, and of their parents.

    In a container the path is often that on the host, and only the root of the hierarchy exists.
    """
    for line in _read(_OWN_CGROUPS).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            roots = [_CGROUPS, _CGROUPS / "unified"]
        elif controller in controllers.split(","):
            roots = [_CGROUPS / controllers, _CGROUPS / controller]
        else:
            continue
        inner = Path(path.lstrip("/"))
        for root in roots:
            yield from (root / part for part in (inner, *inner.parents))


def _read(file: Path) -> str:
    """Returns the text of a file, empty if it cannot be read."""
    with suppress(OSError, UnicodeDecodeError):
        return file.read_text(encoding="utf-8").strip()
    return ""
