"""The load generator notices what becomes of a single datagram in ten thousand."""

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest

from bench.load.content import Kinds
from bench.load.messages import open_socket
from bench.load.run import Ends, Load, Outcome, Ways, run_load
from bench.load.tally import Tally
from bench.peers.direct import plain_ways
from relayd.core.endpoint import Endpoint
from relayd.core.wire import Port
from relayd.forwarding.sockets import BoundSocket, memory_of
from tests.integration.waiting import eventually

SENT = 10_000
GAME = (24, 29, 53, 100, 1001)
Disturb = Callable[[list[bytes]], list[bytes]]
"""What becomes of the datagrams at the chosen moment: two that came one behind the other."""


def lose(two: list[bytes]) -> list[bytes]:
    return two[1:]


def double(two: list[bytes]) -> list[bytes]:
    return [two[0], *two]


def swap(two: list[bytes]) -> list[bytes]:
    return two[::-1]


def late_copy(two: list[bytes]) -> list[bytes]:
    return [*two, two[0]]


def alter(place: int) -> Disturb:
    def altered(two: list[bytes]) -> list[bytes]:
        changed = bytearray(two[0])
        changed[place] ^= 0x10
        return [bytes(changed), two[1]]

    return altered


def cut(two: list[bytes]) -> list[bytes]:
    return [two[0][:-1], two[1]]


def lengthen(two: list[bytes]) -> list[bytes]:
    return [two[0] + b"\0", two[1]]


def to_host_only(addresses: list[tuple[str, int]], flows: int) -> Ways:
    return plain_ways(addresses, addresses, flows)


class Disturber(threading.Thread):
    """Forwards from one socket to an address, and disturbs two datagrams in the middle."""

    def __init__(self, to: tuple[str, int], disturb: Disturb) -> None:
        super().__init__()
        self.socket = open_socket("127.0.0.1")
        self._to = to
        self._disturb = disturb
        self.over = False
        self.received = 0

    def run(self) -> None:
        held: list[bytes] = []
        while not self.over:
            if not select.select([self.socket], [], [], 0.01)[0]:
                continue
            datagram = self.socket.recv(2048)
            held.append(datagram)
            if self.received + 1 == SENT // 2:
                self.received += 1
                continue
            for one in self._disturb(held) if len(held) == 2 else held:
                self.socket.sendto(one, self._to)
            held = []
            self.received += 1


@contextmanager
def sockets(count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(open_socket("127.0.0.1")) for _ in range(count)]


def disturbed(disturb: Disturb, payload_bytes: tuple[int, ...] = (100,)) -> Tally:
    """What the generator says of a run in which nothing but `disturb` changed anything.

    Where the machine had no time to read a socket for so long that the kernel dropped from it, or that the generator
    waited no longer, that is tried again.
    """
    while True:
        tally, in_time = _run(disturb, payload_bytes)
        if in_time:
            return tally


def _run(disturb: Disturb, payload_bytes: tuple[int, ...]) -> tuple[Tally, bool]:
    with sockets(1) as clients, sockets(1) as hosts:
        disturber = Disturber(hosts[0].getsockname(), disturb)
        disturber.start()
        try:
            ways = to_host_only([disturber.socket.getsockname()], 1)
            load = Load(0.5, SENT / 0.5, directions=["to_host"])
            tally = run_load(load, Ends(clients, hosts, 1, 4), ways, Kinds(payload_bytes), []).tally
            read = [BoundSocket(Endpoint(Port.CLIENT, 0), sock) for sock in (disturber.socket, hosts[0])]
            if any(memory.receive_overflows for _, memory in memory_of(read)):
                return tally, False
            eventually(lambda: disturber.received == SENT, "all is forwarded")
            return tally, not select.select([hosts[0]], [], [], 0)[0]
        finally:
            disturber.over = True
            disturber.join()
            disturber.socket.close()


class Case(NamedTuple):
    disturb: Disturb
    expected: Tally


CASES = {
    "lost": Case(lose, Tally(SENT, SENT - 1, 1, 0, 0, 0)),
    "doubled": Case(double, Tally(SENT, SENT, 0, 0, 1, 0)),
    "doubled late": Case(late_copy, Tally(SENT, SENT, 0, 0, 1, 0)),
    "swapped": Case(swap, Tally(SENT, SENT, 0, 1, 0, 0)),
    **{
        f"altered {where}": Case(disturb, Tally(SENT, SENT - 1, 0, 0, 0, 1))
        for where, disturb in {
            "number": alter(0),
            "high number": alter(7),
            "time": alter(9),
            "flow": alter(16),
            "check": alter(21),
            "pattern": alter(30),
            "last byte": alter(-1),
            "cut": cut,
            "longer": lengthen,
        }.items()
    },
}


@pytest.mark.parametrize("name", CASES)
def test_one_in_ten_thousand_is_noticed(name: str) -> None:
    assert disturbed(CASES[name].disturb) == CASES[name].expected


@pytest.mark.parametrize("name", ["lost", "altered last byte"])
def test_with_the_lengths_of_a_game_too(name: str) -> None:
    assert disturbed(CASES[name].disturb, GAME) == CASES[name].expected


def through_nothing(load: Load, flows: int = 32, payload_bytes: tuple[int, ...] = GAME) -> Outcome:
    with sockets(8) as clients, sockets(4) as hosts:
        ways = plain_ways([s.getsockname() for s in hosts], [s.getsockname() for s in clients], flows)
        return run_load(load, Ends(clients, hosts, flows, 4), ways, Kinds(payload_bytes), [])


@pytest.mark.parametrize("window", [0, 64])
def test_all_of_many_flows_both_ways_as_fast_as_can_be(window: int) -> None:
    outcome = through_nothing(Load(0.2, window=window))
    assert set(outcome.tallies) == {"to_host", "to_player"}
    assert all(tally.flawless and tally.sent for tally in outcome.tallies.values())


def test_an_open_loop_sends_what_it_is_told_and_when() -> None:
    outcome = through_nothing(Load(0.25, 8000, stamped=True))
    assert outcome.tally == Tally(2000, 2000, 0, 0, 0, 0)
    assert outcome.cpu.generator_ns > 0
    for sent_ns, arrived_ns in outcome.times.values():
        assert len(sent_ns) == 1000
        assert (arrived_ns >= sent_ns).all()
        assert (sent_ns[1:] >= sent_ns[:-1]).all()


def test_a_flow_at_the_wrong_socket_is_wrong() -> None:
    with sockets(2) as clients, sockets(2) as hosts:
        ways = to_host_only([hosts[1].getsockname(), hosts[0].getsockname()], 2)
        load = Load(0.1, 1000, directions=["to_host"])
        tally = run_load(load, Ends(clients, hosts, 2, 1), ways, Kinds((100,)), []).tally
    assert tally == Tally(100, 0, 0, 0, 0, 100)


def test_what_is_left_from_an_earlier_load_is_not_counted() -> None:
    with sockets(1) as clients, sockets(1) as hosts:
        ways = to_host_only([hosts[0].getsockname()], 1)
        load = Load(0.05, 1000, directions=["to_host"], quiet_seconds=0.01)
        # Listened to where nothing arrives, so that all of it is still waiting at the host.
        assert run_load(load, Ends(clients, clients, 1, 1), ways, Kinds((100,)), []).tally.lost == 50
        assert run_load(load, Ends(clients, hosts, 1, 1), ways, Kinds((100,)), []).tally.flawless
