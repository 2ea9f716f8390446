"""What ``python -m bench all`` measures, in this order. The type says what a module of a scenario has to offer."""

from bench.scenario import Scenario

COMPARED: dict[str, Scenario] = {}
