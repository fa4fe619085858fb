"""The steps of `benchmarks.gpu_check`: each runs in a separate process and reports findings as it goes."""

from __future__ import annotations

import collections
import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.profiler import ProfileData
from scipy.stats import spearmanr

from benchmarks.generations import make_config
from benchmarks.gpu_findings import NO_GPU, part_of_step, report, report_machine
from benchmarks.machine import describe_machine
from benchmarks.parts import block_steps, median_seconds_a_step, network_steps, physics_steps
from evoconn_cli.config.loading import override_config
from evoconn_cli.config.schema import RunConfig
from evoconn_cli.engine.build import Engine, build_engine
from evoconn_cli.engine.devices import start_jax
from evoconn_cli.engine.kernel_choice import compare
from evoconn_cli.engine.mesh import WorkerMesh, make_worker_mesh
from evoconn_cli.engine.state import RunState
from evoconn_cli.limits import usable_cores

_LARGEST_KERNELS = 12
_SPEED_STEPS, _NETWORK_STEPS, _TRACED_STEPS, _KERNEL_STEPS, _REPETITIONS = 60, 200, 20, 10, 3


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    tiny: bool = False
    members: int = 1024  # of the comparison with the CPU
    overrides: tuple[str, ...] = ()
    apart: tuple[int, ...] = (1, 2, 5, 10, 50)  # steps after which GPU and CPU are compared
    kernel_members: tuple[int, ...] = (1024, 10240)
    lanes: tuple[int, ...] = (1024, 10240, 4096, 2048, 512)  # the first two also with the parts of a step
    generations: tuple[tuple[str, int, int], ...] = (  # task, members, lanes
        ("hopper", 10240, 10240),
        ("hopper", 10240, 2048),
        ("humanoid", 10240, 10240),
        ("humanoid", 4096, 4096),
        ("hopper", 10240, 512),
    )


TINY = Sizes(
    tiny=True,
    members=16,
    overrides=("task.episode_length=12", "network.num_neurons=32"),
    apart=(1, 3),
    kernel_members=(8,),
    lanes=(8,),
    generations=(("probe_sign", 32, 8),),
)


def _start(sizes: Sizes) -> WorkerMesh:
    """Returns one GPU, and leaves the CPU with all of its cores; with tiny sizes, a CPU instead."""
    jax.config.update("jax_num_cpu_devices", len(usable_cores()))
    workers = start_jax(1)
    if workers.on_cpu and not sizes.tiny:
        print("There is no GPU: JAX finds only CPUs. `--tiny` tries the check itself on a CPU.", flush=True)
        sys.exit(NO_GPU)
    driver = " ".join(workers.first_device.client.platform_version.split())
    report_machine(f"{describe_machine(workers)}, {driver}")
    return workers


def _configure(task: str, members: int, workers: WorkerMesh, sizes: Sizes, *overrides: str) -> RunConfig:
    config, _ = make_config(task, members, workers)
    return override_config(config, [*sizes.overrides, *overrides])


def _peak_gb(workers: WorkerMesh) -> float | None:
    stats = workers.first_device.memory_stats()  # None on CPUs
    return stats.get("peak_bytes_in_use", 0) / 1e9 if stats else None


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    before = time.perf_counter()
    result = jax.block_until_ready(call())
    return result, time.perf_counter() - before


def _cached_programs() -> int:
    folder = Path(jax.config.values["jax_compilation_cache_dir"])
    return sum(1 for file in folder.glob("*-cache"))


def _compile(engine: Engine, state: RunState) -> tuple[Callable, dict[str, Any]]:
    """Returns the compiled generation, the time it took and whether the programs came from the cache."""
    known = _cached_programs()
    step, seconds = _timed(lambda: engine.compile(state))
    return step, {"compile_s": seconds, "from_cache": _cached_programs() == known}


def check_engine(tiny: bool, seconds: float, task: str) -> None:
    """Runs a generation twice on the GPU and once on the CPU, from the same state, and compares them."""
    sizes = TINY if tiny else Sizes()
    gpu = _start(sizes)
    cpu = make_worker_mesh(jax.devices("cpu"))
    engine = build_engine(_configure(task, sizes.members, gpu, sizes), gpu)
    report("kernel", chosen=engine.kernel.name, because=engine.kernel.found)
    state = engine.initial_state()
    step, compiled = _compile(engine, state)
    (first, _), first_s = _timed(lambda: step(jax.tree.map(np.copy, state)))
    (second, measured), again_s = _timed(lambda: step(jax.tree.map(np.copy, state)))
    report(
        f"{task}, generation of {sizes.members} members",
        **compiled,
        first_s=first_s,
        again_s=again_s,
        env_steps=int(second.env_steps),
        fitness_mean=measured["fitness_mean"],
        peak_gb=_peak_gb(gpu),
    )
    unequal = [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)]
    report("same seed twice", equal_to_the_last_bit=not any(unequal), arrays_that_differ=sum(unequal))
    with part_of_step("compared with the CPU"):
        on_cpu = build_engine(_configure(task, sizes.members, cpu, sizes), cpu)
        _compare_generations(task, sizes, (engine, gpu), (on_cpu, cpu), jax.device_get(state))
        alone = make_worker_mesh(jax.devices("cpu"), 1)
        run_here, run_there = (block_steps(engine, gpu, sizes.members), block_steps(on_cpu, alone, sizes.members))
        for steps in sizes.apart:
            here, there = (np.asarray(run(steps))[: sizes.members] for run in (run_here, run_there))
            apart = np.abs(here - there) / np.maximum(np.abs(there), 1e-6)
            report(f"returns after {steps} steps", relative_median=np.median(apart), relative_max=apart.max())


def _compare_generations(
    task: str, sizes: Sizes, ours: tuple[Engine, WorkerMesh], theirs: tuple[Engine, WorkerMesh], state: RunState
) -> None:
    members = _configure(task, sizes.members, ours[1], sizes).algo.num_members

    def run(engine: Engine, workers: WorkerMesh) -> tuple[Any, RunState, Callable]:
        whole, sharded, generation = workers.whole, workers.sharded, engine.generation
        simulate = jax.jit(generation.simulate, in_shardings=(whole, sharded, sharded), out_shardings=whole)
        numbers = workers.put_sharded(generation.members)
        result = jax.device_get(simulate(workers.put_whole(state), numbers, None))

        def learn(result: Any) -> RunState:
            return jax.device_get(jax.jit(generation.learn)(*jax.device_put((state, result), workers.first_device))[0])

        return result, learn(result), learn

    def draw(engine: Engine, workers: WorkerMesh, weights: np.ndarray) -> tuple[Any, Any]:
        def drawn(strategy_state: Any, weights: jax.Array) -> tuple[Any, Any]:
            asked = engine.strategy.ask(jax.random.key(1), strategy_state, jnp.arange(members))
            return asked, engine.strategy.weighted_sums(strategy_state, asked, weights)

        return jax.device_get(jax.jit(drawn)(*jax.device_put((state.strategy, weights), workers.first_device)))

    def same(a: Any, b: Any) -> bool:
        return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))

    def update(after: RunState) -> np.ndarray:
        probs = (jax.tree.leaves(one.strategy.probs) for one in (after, state))
        return np.concatenate([np.ravel(x - y) for x, y in zip(*probs, strict=True)])

    with jax.default_device(theirs[1].first_device):
        their_result, their_state, learn_there = run(*theirs)
    our_result, our_state, _ = run(*ours)
    here, there = our_result.members, their_result.members
    moved, moved_there = update(our_state), update(their_state)
    report(
        "members' fitness",
        mean=here.fitness.mean(),
        mean_cpu=there.fitness.mean(),
        sd=here.fitness.std(),
        sd_cpu=there.fitness.std(),
        rank_correlation=spearmanr(here.fitness, there.fitness)[0],
        share_of_same_length=np.mean(here.steps == there.steps),
    )
    report(
        "update of the probabilities",
        cosine=moved @ moved_there / max(float(np.linalg.norm(moved) * np.linalg.norm(moved_there)), 1e-30),
        size_over_cpu=np.linalg.norm(moved) / max(float(np.linalg.norm(moved_there)), 1e-30),
        of_same_results_largest_difference=np.abs(moved - update(learn_there(our_result))).max(),
    )
    (drawn, sums), (drawn_there, sums_there) = (draw(*side, our_result.weights) for side in (ours, theirs))
    report("from the same key and weights", members_equal=same(drawn, drawn_there), sums_equal=same(sums, sums_there))


def check_kernel(tiny: bool, seconds: float) -> None:
    """Compares the kernel with XLA's program: results and time."""
    sizes = TINY if tiny else Sizes()
    workers = _start(sizes)
    for members in sizes.kernel_members:
        _compare_kernel(sizes, workers, members)


def _compare_kernel(sizes: Sizes, workers: WorkerMesh, members: int) -> None:
    config = _configure("probe_sign" if sizes.tiny else "hopper", members, workers, sizes, "engine.kernel=xla")
    engine, key = build_engine(config, workers), jax.random.key(0)
    assert engine.network.fused is not None
    networks = {"xla": engine.network, "kernel": engine.network.fused(workers.on_cpu)}

    def draw() -> Any:
        return engine.strategy.ask(key, engine.strategy.init(key), jnp.arange(members))

    with part_of_step(f"{members} members, equality"):
        obs = jax.random.normal(key, (_KERNEL_STEPS, members, engine.task.observation_size))
        drawn, keys = jax.jit(draw)(), jax.random.split(key, members)
        found = compare(networks["kernel"], networks["xla"], candidates=drawn, keys=keys, observations=obs)
        report(f"{members} members, equality", equal=found.equal, spikes_apart=found.spikes, state_apart=found.state)
    times = {}
    for name, network in networks.items():
        with part_of_step(f"{members} members, {name}"):
            run = network_steps(engine._replace(network=network), workers, members)
            times[name] = median_seconds_a_step(run, 2 if sizes.tiny else _NETWORK_STEPS, _REPETITIONS)
            report(f"{members} members, {name}", us_per_step=times[name] * 1e6)
    if len(times) == len(networks):
        report(f"{members} members", xla_over_kernel=times["xla"] / times["kernel"])


def check_speed(tiny: bool, seconds: float, task: str) -> None:
    """Measures steps of blocks, their parts and their kernels.

    A generation of P members with L lanes that all run full episodes takes P / L times as long as a block.
    """
    sizes = TINY if tiny else Sizes()
    workers = _start(sizes)
    engine = build_engine(_configure(task, max(sizes.lanes), workers, sizes), workers)

    def measure(what: str, lanes: int, run: Callable[[int], jax.Array], steps: int = _SPEED_STEPS) -> None:
        with part_of_step(f"{what}, {lanes} lanes"):
            _, first_s = _timed(lambda: run(1))
            took = median_seconds_a_step(run, 2 if tiny else steps, _REPETITIONS)
            report(
                f"{what}, {lanes} lanes",
                ms_per_step=took * 1e3,
                env_steps_per_s=lanes / took,
                compile_and_first_step_s=first_s,
                peak_gb_so_far=_peak_gb(workers),
            )

    for number, lanes in enumerate(sizes.lanes):
        block = block_steps(engine, workers, lanes)
        measure("step", lanes, block)
        if number < 2:
            with part_of_step(f"kernels, {lanes} lanes"):
                _report_kernels(block, lanes, 2 if sizes.tiny else _TRACED_STEPS)
            measure("physics alone", lanes, physics_steps(engine, workers, lanes))
            measure("network alone", lanes, network_steps(engine, workers, lanes), _NETWORK_STEPS)


def _report_kernels(run: Callable[[int], jax.Array], lanes: int, steps: int) -> None:
    """Reports what a step launches; the start of the program cancels out."""
    few, many = _trace(lambda: run(1)), _trace(lambda: run(1 + steps))
    per_step = {name: (total - few[name]) / steps for name, total in many.items()}
    launches, nanoseconds = np.sum(list(per_step.values()), axis=0)
    report(f"kernels, {lanes} lanes", per_step=launches, busy_ms_per_step=nanoseconds / 1e6)
    for name, (launches, nanoseconds) in sorted(per_step.items(), key=lambda item: -item[1][1])[:_LARGEST_KERNELS]:
        report(f"kernel `{name[:48]}`", per_step=launches, us_per_step=nanoseconds / 1e3)


def _trace(call: Callable[[], Any]) -> dict[str, np.ndarray]:
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            jax.block_until_ready(call())
        (file,) = Path(folder).rglob("*.xplane.pb")
        return read_kernels(ProfileData.from_file(str(file)), on_cpu=jax.default_backend() == "cpu")


def read_kernels(profile: Any, *, on_cpu: bool) -> dict[str, np.ndarray]:
    """Returns `[2]` launches and nanoseconds of each kernel or copy by its name.

    Args:
        profile: Trace, a `ProfileData`.
        on_cpu: Whether there is no GPU; then whatever was traced counts.

    Raises:
        RuntimeError: the trace has nothing of a GPU.
    """
    lines = {(plane.name, line.name): list(line.events) for plane in profile.planes for line in plane.lines}
    # Streams have each kernel and copy once; other lines of a device sum them up.
    counted = [on_cpu or ("GPU" in plane and name.startswith("Stream")) for plane, name in lines]
    if not any(counted):
        raise RuntimeError(f"the trace has no streams of a GPU, only {sorted(lines)}")
    kernels: dict[str, np.ndarray] = collections.defaultdict(lambda: np.zeros(2))
    for events in itertools.compress(lines.values(), counted):
        for event in events:
            kernels[event.name] += (1, event.duration_ns)
    return kernels


def check_generations(tiny: bool, seconds: float) -> None:
    """Measures generations of untrained members, most of which fall early, with all lanes and with fewer."""
    sizes = TINY if tiny else Sizes()
    workers = _start(sizes)
    for task, members, lanes in sizes.generations:
        with part_of_step(f"{task}, {members} members, {lanes} lanes"):
            engine = build_engine(_configure(task, members, workers, sizes, f"engine.block={lanes}"), workers)
            state = engine.initial_state()
            step, compiled = _compile(engine, state)
            state, _ = step(state)
            before, begun = int(state.env_steps), time.perf_counter()
            state, measured = jax.block_until_ready(step(state))
            took = time.perf_counter() - begun
            counted = int(state.env_steps) - before
            report(
                f"{task}, {members} members, {lanes} lanes",
                **compiled,
                generation_s=took,
                env_steps_per_s=counted / took,
                share_counted=counted / int(measured["steps_simulated"]),
                peak_gb_so_far=_peak_gb(workers),
            )


def check_compiling(tiny: bool, seconds: float, *tasks: str) -> None:
    """Compiles what `check_engine` compiled, with the cache that it left."""
    sizes = TINY if tiny else Sizes()
    workers = _start(sizes)
    for task in tasks:
        with part_of_step(task):
            engine = build_engine(_configure(task, sizes.members, workers, sizes), workers)
            report(f"{task}, generation of {sizes.members} members", **_compile(engine, engine.initial_state())[1])
