"""The report of `benchmarks.run` as Markdown tables; imports no JAX, so that the docs can be written from it."""

from __future__ import annotations

from typing import Any

EARLY = (10, 20)
"""Generations that count as early."""

MEMORY_POPULATIONS = (512, 2048, 10240)
"""Populations whose peak memory is measured."""

_PARTS = {
    "physics": "physics, members last",
    "physics_vmap": "physics, `vmap`, on as many devices",
    "network": "network, packed, before training",
    "network_dense": "network, dense int8, before training, one device",
    "generation": "whole generation, full episodes",
    "generation_untrained": "the same, before training",
    "baseline": "baseline: `vmap` and dense, one device",
}
_ONCE = {"sampling": "sampling", "update": "update"}
_RATIOS = {
    "speedup": "baseline / generation, full episodes",
    **{f"early_speedup_{count}": f"the same over the first {count} generations" for count in EARLY},
    "network_speedup": "dense / packed network, before training",
    "over_physics": "generation / physics",
    "over_physics_lowest": "the same, process with the lowest",
    "over_physics_highest": "the same, process with the highest",
    "over_physics_untrained": "the same, before training",
    **{f"early_share_counted_{count}": f"share of simulated steps that count, first {count}" for count in EARLY},
}
_THROUGHPUTS = {
    f"early_steps{which}_{count}": f"{label}, first {count} generations"
    for count in EARLY
    for which, label in {"": "evoconn", "_baseline": "baseline"}.items()
}


def markdown(report: dict[str, Any]) -> str:
    """Returns the report as tables."""
    tasks = report["tasks"]
    sections = {
        "µs per environment step and member": (_PARTS, 2),
        "µs per member and generation": (_ONCE, 2),
        "Ratios": (_RATIOS, 2),
        "Environment steps counted, per second": (_THROUGHPUTS, 0),
        "Neurons that spike per sub-step": (
            {"spikes": "full episodes", "spikes_untrained": "the same, before training"},
            1,
        ),
        "Peak memory above the bare process [MB]": (
            {f"memory_{size}": f"population {size}" for size in MEMORY_POPULATIONS},
            0,
        ),
        "Seconds": (
            {
                "compile_cold": "compiling, cold",
                "compile_warm": "compiling, from the cache",
                "second_start": "second `evoconn train`, start to its first generation",
            },
            1,
        ),
    }
    lines = [f"`{report['command']}`, {report['date']}, {report['machine']}, population {report['population']}", ""]
    for title, (rows, digits) in sections.items():
        if not any(name in figures for name in rows for figures in tasks.values()):
            continue
        lines += [f"| {title} | {' | '.join(tasks)} |", "|---|" + "---:|" * len(tasks)]
        for name, label in rows.items():
            lines.append(f"| {label} | {' | '.join(f'{figures[name]:,.{digits}f}' for figures in tasks.values())} |")
        lines.append("")
    if "help_seconds" in report:
        lines.append(f"`evoconn --help`: {report['help_seconds']:.2f} s")
    return "\n".join(lines)
