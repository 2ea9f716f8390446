"""What a scenario is, and where it is played."""

from collections.abc import Mapping
from typing import NamedTuple

from tests.scenarios.steps import Peer, Step

REBIND_AFTER = 0.5
HOST_TIMEOUT = 1.0
PLAIN: dict[str, object] = {
    "rebind_after": REBIND_AFTER,
    "host_timeout": HOST_TIMEOUT,
    "refusals_per_source_per_second": 1000,
    "guesses_per_second": 1000,
    "guesses_per_source_per_second": 1000,
}
"""[limits] of all scenarios, but for what they say themselves."""

VIRTUAL = ("naive", "engine", "uvloop", "thread", "kernel")
"""Where a scenario is played on a virtual clock: the naive relay, the core, both socket forwarders, the program."""
PROCESSES = ("native", "python", "lo", "veth")
"""Whole relays, by what serves: on sockets the thread or Python, or the program on `lo` or on a pair of veth."""


class Scenario(NamedTuple):
    """Steps, and the relay that they are for."""

    steps: list[Step]
    limits: Mapping[str, object] = {}
    """[limits] besides `PLAIN`."""
    fast_path: Mapping[str, object] = {}
    """[fast_path], where there is one."""
    named: Mapping[int, Peer] = {}
    """From where users are authorized."""
    without: Mapping[str, str] = {}
    """Those of `VIRTUAL` and `PROCESSES` that cannot play it, and why."""


def but(reason: str, *worlds: str) -> dict[str, str]:
    """For `Scenario.without`."""
    return dict.fromkeys(worlds, reason)


TOO_LONG = but("would take too long on a real clock", *PROCESSES)
TO_THE_MOMENT = but("is about an exact time, and a real clock has none", *PROCESSES)
NOT_FROM_A_SOCKET = but(
    "a socket sends from no such address; tests/integration/test_abuse.py invents some", "uvloop", "thread", *PROCESSES
)

SILENT: Mapping[str, object] = {"unknown_per_second": 0, "unknown_per_source_per_second": 0}
"""[fast_path] of a kernel program that passes no unknown tokens up, and so has to decide all about them."""
