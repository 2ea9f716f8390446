"""What becomes of a datagram that reaches Python: what is sent, by which socket, and what is counted otherwise."""

import errno
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from relayd.core.endpoint import Endpoint
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, State, decode_state, encode_ping, encode_player_data
from relayd.forwarding.asked import leaving_from, local_of
from relayd.forwarding.judge import Judge
from tests.support.forwarders import FakeRecords
from tests.support.relays import ALICE, ALICE_AT, HOST, HOST_AT, ONGOING, SESSION, Relay
from tests.support.sockets import FakeSocket, fake, fake_ports


class World:
    """A judge with sockets at two addresses of the relay."""

    def __init__(self) -> None:
        self.relay = Relay()
        self.sockets = fake_ports(1, 2)
        self.records = FakeRecords()
        self.judge = Judge(self.relay.engine, self.sockets, self.records)

    def socket(self, number: int) -> FakeSocket:
        return fake(self.sockets[number])

    def receive(self, number: int, data: bytes, source: tuple[str, int]) -> None:
        self.judge.receive(self.sockets[number].endpoint, data, source, self.relay.now)

    def bind(self) -> None:
        """The host at the first address, Alice at the second."""
        self.receive(0, encode_ping(HOST, SESSION), HOST_AT)
        self.receive(3, encode_ping(ALICE, SESSION), ALICE_AT)
        for number in range(4):
            self.socket(number).taken()

    def data(self) -> None:
        """Alice sends something."""
        self.receive(3, encode_player_data(ALICE, SESSION, ONGOING), ALICE_AT)

    def counted(self, verdict: Verdict) -> int:
        return self.relay.count(Port.CLIENT, verdict)[0]


@pytest.fixture
def world() -> Iterator[World]:
    one = World()
    yield one
    for bound in one.sockets:
        bound.socket.close()


def test_an_answer_leaves_by_the_socket_that_was_asked(world: World) -> None:
    world.receive(3, encode_ping(ALICE, SESSION), ALICE_AT)
    ((answer, to),) = world.socket(3).taken()
    assert (decode_state(answer), to) == (State.VALID, ALICE_AT)


def test_what_is_forwarded_leaves_by_the_socket_its_receiver_is_bound_at(world: World) -> None:
    world.bind()
    world.data()
    ((data, to),) = world.socket(0).taken()
    assert (data.endswith(ONGOING), to) == (True, HOST_AT)
    assert [user.token for user in world.records.accounted] == [ALICE]
    assert world.counted(Verdict.FORWARDED) == 1


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS])
def test_a_full_queue_drops_and_counts(world: World, number: int) -> None:
    world.bind()
    world.socket(0).failure = number
    world.data()
    assert (world.counted(Verdict.SEND_QUEUE_FULL), world.counted(Verdict.FORWARDED)) == (1, 0)
    world.socket(0).failure = None
    world.data()
    assert len(world.socket(0).taken()) == 1, "the next one goes, and no late one"


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EMSGSIZE, errno.EINVAL])
def test_any_other_error_is_a_failure(world: World, number: int) -> None:
    world.bind()
    world.socket(0).failure = number
    world.data()
    assert (world.counted(Verdict.SEND_FAILED), world.counted(Verdict.FORWARDED)) == (1, 0)


ASKED = local_of(bytes((192, 0, 2, 7)), 0)


def test_what_leaves_an_address_is_told_to_the_kernel(world: World) -> None:
    """Answers, what is forwarded, and refusals."""
    alice, host = ASKED, local_of(bytes(15) + b"\1", 9)
    world.judge.receive(world.sockets[0].endpoint, encode_ping(HOST, SESSION), HOST_AT, world.relay.now, host)
    world.judge.receive(world.sockets[3].endpoint, encode_ping(ALICE, SESSION), ALICE_AT, world.relay.now, alice)
    data = encode_player_data(ALICE, SESSION, ONGOING)
    world.judge.receive(world.sockets[3].endpoint, data, ALICE_AT, world.relay.now, alice)
    world.judge.receive(world.sockets[3].endpoint, encode_ping(1, SESSION), ALICE_AT, world.relay.now, alice)
    assert world.socket(0).left_from == [leaving_from(host)] * 2
    assert world.socket(3).left_from == [leaving_from(alice)] * 2
    assert decode_state(world.socket(3).taken()[-1][0]) == State.INVALID


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.ENODEV])
def test_an_address_that_has_left_the_host_loses_nothing(world: World, number: int) -> None:
    world.socket(3).gone = number
    world.judge.receive(world.sockets[3].endpoint, encode_ping(ALICE, SESSION), ALICE_AT, world.relay.now, ASKED)
    assert [to for _, to in world.socket(3).taken()] == [ALICE_AT]
    assert (world.counted(Verdict.ANSWERED), world.counted(Verdict.SEND_FAILED)) == (1, 0)


def test_a_full_queue_is_no_address_that_has_left(world: World) -> None:
    world.socket(3).gone = errno.EAGAIN
    world.judge.receive(world.sockets[3].endpoint, encode_ping(ALICE, SESSION), ALICE_AT, world.relay.now, ASKED)
    assert world.socket(3).taken() == []
    assert world.counted(Verdict.SEND_QUEUE_FULL) == 1


def test_what_is_dropped_is_neither_sent_nor_anybodys(world: World) -> None:
    world.receive(3, b"\x09", ALICE_AT)
    assert all(world.socket(number).taken() == [] for number in range(4))
    assert world.records.accounted == []


def test_a_defect_is_logged_and_the_next_datagram_is_judged(world: World) -> None:
    with capture_logs() as logs:
        world.judge.receive(Endpoint(Port.CLIENT, 3), None, ALICE_AT, 0.0)  # type: ignore[arg-type]  # the defect
    assert [(line["log_level"], line["port"]) for line in logs] == [("error", "client")]
    world.bind()
    world.data()
    assert world.counted(Verdict.FORWARDED) == 1


def test_what_a_flood_shows_is_logged_once_a_minute(world: World) -> None:
    with capture_logs() as logs:
        for now in (0.0, 1.0, 59.0, 60.0, 61.0):
            world.judge.receive(Endpoint(Port.CLIENT, 3), None, ALICE_AT, now)  # type: ignore[arg-type]  # the defect
    assert [line["count"] for line in logs] == [1, 3]
