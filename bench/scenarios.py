"""The scenarios that have subjects to compare; each has `subjects`, `measure` and perhaps `remarks`."""

from types import ModuleType

from bench import burst, cost, engine, latency, restart, scale, throughput

SCENARIOS: dict[str, ModuleType] = {
    "throughput": throughput,
    "cost": cost,
    "latency": latency,
    "scale": scale,
    "burst": burst,
    "restart": restart,
    "engine": engine,
}
"""In the order in which they are worth reading."""
