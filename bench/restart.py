"""``python -m bench restart``: what a game notices of a relayd that is ended by SIGTERM and started again.

While 64 games play at 5,000 datagrams a second, relayd is ended and, once it has, started again with the same
configuration and on the same sockets, as systemd does; nobody joins again. The gap is the longest time for which a
player, or a host from one of its players, hears nothing.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from bench.cpu import cores
from bench.load.content import Order
from bench.load.generator import Generator
from bench.load.run import Load, Outcome
from bench.measurement import Effort, Measurement
from bench.network import open_network
from bench.peers import relayd
from bench.stage import USUAL, check_available

SCENARIO = "restart"
_PER_SECOND = 5_000
_SECONDS = 6.0
_QUICK_SECONDS = 4.0
_BEFORE_SECONDS = 1.0
_FAST_PATH = {"relayd": False, "relayd (fast path)": True}


def subjects(_effort: Effort) -> list[str]:
    """relayd alone: what it is about is its own way to outlive itself."""
    return list(_FAST_PATH)


def measure(subject: str, effort: Effort) -> list[Measurement]:
    """One run. Takes the time that a restart and the time after it take, whatever the effort."""
    check_available(subject)
    core = cores()
    fast_path = _FAST_PATH[subject]
    with (
        tempfile.TemporaryDirectory() as folder,
        open_network("lo") as network,
        Generator(USUAL, core.generator, network.place) as generator,
        relayd.running(generator, network, Path(folder), core.relay, fast_path, outlives=True) as (relay, measured),
    ):
        way = generator.join(measured.door)
        if measured.settle is not None:
            measured.settle(generator, way)
        seconds = _QUICK_SECONDS if effort.quick else _SECONDS
        generator.start(Load(seconds, _PER_SECOND, stamped=True, quiet_seconds=0.5), way)
        time.sleep(_BEFORE_SECONDS)  # of a game without any trouble
        began = time.perf_counter()
        relay.program.stop()
        relay.program.start(relayd.DETACH)
        relay.wait_until_ready()
        away = time.perf_counter() - began
        outcome = generator.result()
    tally = outcome.tally
    return [
        Measurement(SCENARIO, subject, "lost", "", tally.lost + tally.corrupted, "lower"),
        Measurement(SCENARIO, subject, "lost share", "%", (1 - tally.delivered / tally.sent) * 100, "lower"),
        Measurement(SCENARIO, subject, "longest gap", "ms", longest_gap_ms(outcome), "lower"),
        Measurement(SCENARIO, subject, "SIGTERM to ready again", "ms", away * 1e3, "lower"),
    ]


def longest_gap_ms(outcome: Outcome) -> float:
    """Of any flow in any direction, from the load's beginning to its end."""
    longest = 0
    for direction, (sent_ns, arrived_ns) in outcome.times.items():
        sockets = USUAL.client_sockets if direction == "to_host" else USUAL.host_sockets
        order = Order(USUAL.flows, sockets, USUAL.block)
        flows = order.flows[np.arange(len(sent_ns)) % order.period]
        for flow in range(USUAL.flows):
            heard = np.sort(arrived_ns[(flows == flow) & (arrived_ns > 0)])
            moments = np.concatenate(([sent_ns[0]], heard, [max(sent_ns[-1], heard[-1] if len(heard) else 0)]))
            longest = max(longest, int(np.diff(moments).max()))
    return longest / 1e6
