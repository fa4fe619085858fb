"""Counts the kernels that an environment step launches on a GPU; needs the CUDA plugin (`.[cuda12]`), but no GPU.

    JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1 python -m benchmarks.gpu_kernels [--task humanoid] [--lanes 2048] [--as-on-cpu]

XLA compiles the step of a block for an H100 from its data sheet, without timing alternatives on one. The time of a
launch or a kernel remains unknown.
"""

from __future__ import annotations

import argparse
import re
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from evoconn_cli.config.loading import load_config
from evoconn_cli.engine import build
from evoconn_cli.engine.mesh import make_worker_mesh
from evoconn_cli.engine.rollout import Rollout
from evoconn_cli.networks import conn_snn
from evoconn_cli.networks.conn_snn import make_conn_snn

H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 } core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 device_memory_size: 84942979072
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
device_description_str: "H100"
"""
_NO_KERNEL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier"}


def main() -> None:
    """Parses the arguments, compiles with both kernels, and prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--task", default="humanoid")
    parser.add_argument("--lanes", type=int, default=2048)
    parser.add_argument("--as-on-cpu", action="store_true", help="physics as it is compiled for CPUs, with barriers")
    options = parser.parse_args()
    for kernel in ("xla", "pallas"):
        step = compile_step(options.task, options.lanes, kernel, barriers=options.as_on_cpu)
        text, memory = step.as_text(), step.memory_analysis()
        assert text is not None and memory is not None
        kernels, megabytes = count_kernels(text), memory.temp_size_in_bytes / 1e6
        print(
            f"{options.task}, {options.lanes} lanes, {kernel}: {kernels} kernels per step, {megabytes:.0f} MB besides"
        )


def compile_step(task: str, lanes: int, kernel: str, *, barriers: bool) -> jax.stages.Compiled:
    """Returns the step of a block of `lanes` members, compiled for one H100."""
    gpus = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
    on_gpu = SingleDeviceSharding(gpus.devices[0])
    config = load_config(None, [f"task.name={task}", f"algo.population={lanes}", f"engine.block={lanes}"])
    as_on_gpu: dict[str, Any] = {"one_by_one": False, "fused": "compiled" if kernel == "pallas" else None}
    conn_snn.make_conn_snn = lambda config, **given: make_conn_snn(config, **{**given, **as_on_gpu})
    engine = build.build_engine(config, make_worker_mesh(jax.devices("cpu")[:1]))
    network, strategy = engine.network, engine.strategy
    rollout = Rollout(engine.task, network, first_episode=True, all_steps=True, on_cpu=barriers)

    def arguments() -> tuple:
        key = jax.random.key(0)
        keys = jax.random.split(key, lanes)
        params = network.prepare(strategy.ask(key, strategy.init(key), jnp.arange(lanes)))
        start = rollout.reset(keys)
        ready = rollout.start(start, network.initial_carry(keys), jnp.ones(lanes, bool))
        return params, engine.initial_state().normalizer, start, ready

    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=on_gpu), jax.eval_shape(arguments))
    # Pallas asks the mesh which GPU it lowers for.
    h100 = jax.sharding.AbstractDevice("NVIDIA H100", num_cores=132, platform="gpu")
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ("one",), abstract_device=h100)):
        lowered = jax.jit(rollout.step).trace(*shapes).lower(lowering_platforms=("cuda",))
    return lowered.compile(compiler_options={"xla_gpu_autotune_level": "0"})


def count_kernels(program: str) -> int:
    """Returns how many kernels and copies a compiled program launches; a loop, as many as its known number of turns."""
    computations = dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) [^\n]*\{\n(.*?)^\}", program, re.MULTILINE | re.DOTALL))
    (entry,) = re.findall(r"^ENTRY %?([\w.\-]+)", program, re.MULTILINE)

    def count(name: str) -> int:
        launched = 0
        for line in computations[name].splitlines():
            operation = re.search(r" = .*? ([a-z][\w\-]*)\(", line)
            if operation is None or operation[1] in _NO_KERNEL:
                continue
            if operation[1] == "while":
                turns = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
                body = re.search(r"body=%?([\w.\-]+)", line)
                assert turns and body, line
                launched += int(turns[1]) * count(body[1])
            elif operation[1] == "call":
                launched += count(re.findall(r"to_apply=%?([\w.\-]+)", line)[0])
            else:
                launched += 1
        return launched

    return count(entry)


if __name__ == "__main__":
    main()
