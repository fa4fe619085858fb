"""Names that the command line knows without importing jax."""

BRAX_V1_TASKS = (
    "acrobot",
    "ant",
    "fetch",
    "grasp",
    "halfcheetah",
    "hopper",
    "humanoid",
    "humanoidstandup",
    "inverted_double_pendulum",
    "inverted_pendulum",
    "pusher",
    "reacher",
    "swimmer",
    "ur5e",
    "walker2d",
)
PROBE_TASKS = ("probe_bias", "probe_memory", "probe_nan", "probe_sign", "probe_steps")
TASKS = BRAX_V1_TASKS + PROBE_TASKS

PAIRS: dict[str, tuple[str, ...]] = {"ec": ("conn_snn",), "es": ("lstm", "gru", "mlp", "dense_snn")}
"""The networks that a strategy can search; the first one is its default, as in the published code."""

WANDB_MODES = ("auto", "online", "offline", "disabled")
