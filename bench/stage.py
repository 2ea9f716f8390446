"""A relay and a load generator, set up to measure one with the other, and the direct path beside it."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.cpu import cores
from bench.load.generator import Generator
from bench.load.run import Load, Outcome
from bench.load.shape import Shape
from bench.network import open_network
from bench.peers import asyncio_peer, coturn, direct, nginx, relayd
from bench.peers.direct import DirectDoor
from bench.peers.subject import Running, Start
from bench.scenario import Unavailable
from bench.sizes import game_lengths
from tests.support.kernel_program import why_not


class Subject(NamedTuple):
    """What can be measured, and how to come by it."""

    start: Start
    missing: Callable[[], str | None] = lambda: None
    """What it needs that is not there."""


SUBJECTS = {
    "relayd": Subject(relayd.starting()),
    "relayd (plain)": Subject(relayd.starting(options={"relay": {"forwarder": "python"}})),
    "relayd (fast path)": Subject(relayd.starting(fast_path=True), why_not),
    "nginx": Subject(nginx.start, nginx.missing),
    "coturn": Subject(coturn.start, coturn.missing),
    "asyncio": Subject(asyncio_peer.start),
    "direct": Subject(direct.start),
}

USUAL = Shape(sessions=64, players=4, payload_bytes=game_lengths(), client_sockets=32, host_sockets=8)
"""64 games of a host and 4 players, behind 40 addresses."""


def check_available(subject: str) -> None:
    """Raises Unavailable where this machine lacks what the subject needs."""
    if reason := SUBJECTS[subject].missing():
        raise Unavailable(reason)


class Stage(NamedTuple):
    """Ready to measure."""

    relay: Running
    generator: Generator
    way: int
    direct_generator: Generator
    direct_way: int

    def run(self, load: Load) -> Outcome:
        """A load through the relay."""
        return self.generator.run(load, self.way, self.relay.pids)

    def run_direct(self, load: Load) -> Outcome:
        """The same load without it."""
        return self.direct_generator.run(load, self.direct_way)


@contextmanager
def staged(subject: str, network_name: str = "lo", shape: Shape = USUAL) -> Iterator[Stage]:
    """Starts a relay and brings all peers in; Unavailable where that is not available here."""
    check_available(subject)
    core = cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        network = stack.enter_context(open_network(network_name))
        place = network.direct_place if subject == "direct" else network.place
        generator = stack.enter_context(Generator(shape, core.generator, place))
        beside = generator
        if place != network.direct_place:
            beside = stack.enter_context(Generator(shape, core.generator, network.direct_place))
        relay = stack.enter_context(SUBJECTS[subject].start(generator, network, folder, core.relay))
        way = generator.join(relay.door)
        if relay.settle is not None:
            relay.settle(generator, way)
        yield Stage(relay, generator, way, beside, beside.join(DirectDoor()))
