"""Whether sockets are read, with sockets of this host's own: nothing else tells."""

import socket
from collections.abc import Iterator

import pytest

from relayd.core.endpoint import Endpoint
from relayd.core.limits import Limits
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import MAX_DATAGRAM_BYTES, Port
from relayd.forwarding.sockets import BoundSocket
from relayd.supervision.probes import ProbedEngine, Probes
from tests.support.relays import ids_in_order

ENDPOINTS = [Endpoint(Port.SERVER, 0), Endpoint(Port.CLIENT, 1)]


class World:
    """Two sockets on loopback, and an engine that reads them when it is told to."""

    def __init__(self) -> None:
        self.sockets = [BoundSocket(endpoint, _bound("0.0.0.0")) for endpoint in ENDPOINTS]
        self.engine = ProbedEngine(Table(Limits(), ids_in_order()))
        self.probes = Probes(self.engine, self.sockets)

    def read(self, *numbers: int) -> list[Verdict]:
        """Has the engine read all that waits in these sockets."""
        verdicts = []
        for number in numbers:
            endpoint, sock = self.sockets[number]
            while True:
                try:
                    data, source = sock.recvfrom(2048)
                except BlockingIOError:
                    break
                verdicts.append(self.engine.handle(endpoint, data, source, 0.0).verdict)
        return verdicts

    def unread(self) -> list[int]:
        return [endpoint.number for endpoint in self.probes.unread()]


def _fill(sock: socket.socket, player: socket.socket) -> None:
    """Until nothing more fits in, a probe neither."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(100):
        player.sendto(b"DATA", ("127.0.0.1", sock.getsockname()[1]))


def _bound(ip_address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((ip_address, 0))
    return sock


@pytest.fixture
def world() -> Iterator[World]:
    one = World()
    yield one
    one.probes.close()
    for bound in one.sockets:
        bound.socket.close()


def test_sockets_that_are_read_are_never_named(world: World) -> None:
    for _ in range(5):
        assert world.unread() == []
        world.read(0, 1)


def test_one_that_nobody_reads_is_named_until_it_is_read(world: World) -> None:
    world.unread()
    world.read(0)
    assert world.unread() == [1]
    world.read(0)
    assert world.unread() == [1]
    world.read(0, 1)
    assert world.unread() == []


def test_one_that_is_full_at_every_look_and_read_meanwhile_is_not_named(world: World) -> None:
    """As by a forwarding thread that has more to do than it can, and whose datagrams the engine never sees."""
    full = world.sockets[1].socket
    with _bound("127.0.0.1") as player:
        for _ in range(5):
            _fill(full, player)
            assert world.unread() == []
            full.recv(2048)
            world.read(0)


def test_one_that_is_full_and_not_read_is_named(world: World) -> None:
    full = world.sockets[1].socket
    with _bound("127.0.0.1") as player:
        _fill(full, player)
        world.unread()
        world.read(0)
        assert world.unread() == [1]


def test_its_own_probes_are_neither_counted_nor_answered(world: World) -> None:
    world.unread()
    assert world.read(0, 1) == [Verdict.TOO_LONG] * 2
    assert not any(map(sum, world.engine.counters.datagrams))


def test_a_datagram_of_a_stranger_that_is_as_long_is_counted(world: World) -> None:
    with _bound("127.0.0.1") as stranger:
        stranger.sendto(bytes(MAX_DATAGRAM_BYTES + 1), ("127.0.0.1", world.sockets[1].socket.getsockname()[1]))
    assert world.read(1) == [Verdict.TOO_LONG]
    assert world.engine.counters.datagrams[Port.CLIENT][Verdict.TOO_LONG] == 1


def test_a_short_one_from_the_address_of_a_probe_is_judged_like_any_other(world: World) -> None:
    world.probes.unread()
    source = next(iter(world.engine.own))
    world.engine.handle(ENDPOINTS[1], b"hello", source, 0.0)
    assert sum(map(sum, world.engine.counters.datagrams)) == 1


def test_where_there_is_no_way_to_itself_sockets_are_watched_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object) -> socket.socket:
        raise OSError

    monkeypatch.setattr(Probes, "_sender", nowhere)
    world = World()
    with _bound("127.0.0.1") as stranger:
        stranger.sendto(b"hello", ("127.0.0.1", world.sockets[0].socket.getsockname()[1]))
    assert world.unread() == []
    assert world.unread() == [0]
    for bound in world.sockets:
        bound.socket.close()


def test_an_address_that_has_left_the_host_is_sent_no_probe(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has it now would get it."""
    here = [True]
    monkeypatch.setattr("relayd.supervision.probes._is_here", lambda _: here[0])
    world.unread()
    assert world.read(0, 1) == [Verdict.TOO_LONG] * 2
    assert len(world.engine.own) == 2
    here[0] = False
    world.unread()
    assert (world.read(0, 1), world.engine.own) == ([], set())
    here[0] = True
    world.unread()
    assert world.read(0, 1) == [Verdict.TOO_LONG] * 2
