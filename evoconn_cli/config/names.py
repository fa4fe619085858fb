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
