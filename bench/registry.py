"""What ``python -m bench all`` measures, in this order. The type says what a module of a scenario has to offer."""

from bench import burst, cost, engine, latency, restart, scale, throughput
from bench.scenario import Scenario

COMPARED: dict[str, Scenario] = {
    "throughput": throughput,
    "cost": cost,
    "latency": latency,
    "scale": scale,
    "burst": burst,
    "restart": restart,
    "engine": engine,
}
