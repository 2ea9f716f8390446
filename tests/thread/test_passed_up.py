"""What is passed up: everything but plain datagrams of bound users, untouched; and no more than there is room for."""

import socket
import struct

import pytest

from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data
from tests.integration.waiting import PATIENCE_SECONDS
from tests.thread import compiled
from tests.thread.rig import ALICE, BOB, HOST, SESSION, VALID, C, Rig, S, heard_by_now

pytestmark = compiled.needs_native

ROOM = 2048
"""PASSED_UP in forwarder.h."""
KEPT_BYTES = 1201
FITS = 100
"""Datagrams that a socket's buffer holds in any case."""


@pytest.mark.parametrize("port", [S, C])
@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_who_is_not_bound_is_for_the_engine(ip: str, port: Port) -> None:
    with Rig(ip) as rig:
        stranger = rig.peer()
        datagrams = [encode_ping(1, 2), encode_player_data(1, 2, b"data"), b"", b"junk"]
        rig.send(stranger, port, *datagrams)
        rig.fence(port)
        assert rig.drain() == [(int(port), datagram, stranger.getsockname()) for datagram in datagrams]
        assert rig.totals() == {}


@pytest.mark.parametrize("port", [S, C])
def test_what_is_odd_is_for_the_engine_whoever_sent_it(port: Port) -> None:
    with Rig() as rig:
        user = HOST if port is S else ALICE
        peers = {S: rig.peer(), C: rig.peer()}
        rig.bind(peers[S], S, HOST)
        rig.bind(peers[C], C, ALICE, connection_id=7)
        head = struct.pack("<II", user, SESSION)
        odd = [
            b"",
            head,
            head + b"\x00",
            head + b"\x03 and more",
            head + b"\x02",
            encode_ping(user, SESSION + 1),
            encode_ping(user + 1, SESSION),
            encode_ping(HOST if port is C else ALICE, SESSION),
            head + b"\x01" + bytes(1192),
        ]
        if port is S:
            odd += [head + b"\x02\x07\0\0", encode_host_data(user, SESSION, 7, b"")]
            odd += [encode_host_data(user, SESSION, number, b"data") for number in (0, -1, 8, 7 | 1 << 30)]
        rig.send(peers[port], port, *odd)
        rig.fence(port)
        assert rig.drain() == [(int(port), datagram, peers[port].getsockname()) for datagram in odd]
        assert [heard_by_now(peer) for peer in peers.values()] == [[], []]


def test_a_bound_user_from_elsewhere_is_for_the_engine() -> None:
    with Rig() as rig:
        host, alice, elsewhere = rig.peer(), rig.peer(), rig.peer()
        rig.bind(host, S, HOST)
        rig.bind(alice, C, ALICE, connection_id=7)
        datagrams = [encode_ping(ALICE, SESSION), encode_player_data(ALICE, SESSION, b"data")]
        rig.send(elsewhere, C, *datagrams)
        # From the right address, but at the other port.
        rig.send(alice, S, *datagrams)
        rig.fence(C)
        rig.fence(S)
        expected = {(1, datagram, elsewhere.getsockname()) for datagram in datagrams}
        expected |= {(0, datagram, alice.getsockname()) for datagram in datagrams}
        assert set(rig.drain()) == expected
        assert heard_by_now(host) == []


@pytest.mark.parametrize("size", [1200, 1201, 1202, 1343, 1344, 1345, 2000, 9000, 65507])
def test_of_a_datagram_that_is_too_long_the_length_is_told(size: int) -> None:
    with Rig() as rig:
        alice = rig.peer()
        rig.bind(alice, C, ALICE)
        sent = encode_player_data(ALICE, SESSION, bytes(index % 251 for index in range(size - 9)))
        rig.send(alice, C, sent)
        rig.fence(C)
        ((_, datagram, source),) = rig.drain()
        assert (len(datagram), source) == (size, alice.getsockname())
        assert datagram == sent[:KEPT_BYTES] + bytes(max(0, size - KEPT_BYTES))


def numbered(number: int) -> bytes:
    return b"junk %d" % number


def send_junk(rig: Rig, peer: socket.socket, first: int, last: int) -> None:
    for start in range(first, last, FITS):
        rig.send(peer, C, *map(numbered, range(start, min(last, start + FITS))))
        rig.fence(C)


def test_what_there_is_no_room_for_is_counted_as_overloaded() -> None:
    with Rig() as rig:
        host, alice, stranger = rig.peer(), rig.peer(), rig.peer()
        rig.bind(host, S, HOST)
        slot = rig.bind(alice, C, ALICE, connection_id=7)
        send_junk(rig, stranger, 0, ROOM + 500)
        lost = list(map(numbered, range(ROOM, ROOM + 500)))
        overloaded = {(C, Verdict.OVERLOADED): (500, sum(map(len, lost)))}
        assert rig.totals() == overloaded

        # Those who are bound do not notice, and are not counted for it.
        data = encode_player_data(ALICE, SESSION, b"I play on")
        rig.send(alice, C, data)
        rig.fence(C)
        assert host.recv(100) == b"\x02\x07\0\0\0I play on"
        assert rig.forwarder.counts(slot) == (1, len(data), 0, 0, 0, 0)
        assert rig.totals() == overloaded | {(C, Verdict.FORWARDED): (1, len(data))}

        assert [data for _, data, _ in rig.drain()] == list(map(numbered, range(ROOM)))
        send_junk(rig, stranger, 0, FITS)
        assert [data for _, data, _ in rig.drain()] == list(map(numbered, range(FITS)))


def test_the_room_of_what_is_being_judged_is_not_free() -> None:
    with Rig() as rig:
        stranger = rig.peer()
        send_junk(rig, stranger, 0, ROOM)
        assert len(rig.forwarder.take(ROOM)) == ROOM
        send_junk(rig, stranger, 0, 10)
        assert rig.totals()[C, Verdict.OVERLOADED][0] == 10
        assert rig.forwarder.take(ROOM) == []
        send_junk(rig, stranger, 0, ROOM)
        assert [data for _, data, *_ in rig.forwarder.take(ROOM)] == list(map(numbered, range(ROOM)))
        assert rig.totals()[C, Verdict.OVERLOADED][0] == 10


def test_it_is_taken_in_order_around_the_ring() -> None:
    with Rig() as rig:
        stranger = rig.peer()
        sent = taken = 0
        for turn in range(ROOM // 20):
            send_junk(rig, stranger, sent, sent + 60)
            sent += 60
            limit = (0, 1, 50, 129)[turn % 4]
            for _, data, *_ in rig.forwarder.take(limit):
                assert data == numbered(taken)
                taken += 1
            if sent - taken > ROOM // 2:
                for _, data, _ in rig.drain():
                    assert data == numbered(taken)
                    taken += 1
        assert [data for _, data, _ in rig.drain()] == list(map(numbered, range(taken, sent)))
        assert rig.totals() == {}


def test_a_user_bound_at_two_addresses_of_the_relay_is_told_apart_by_the_socket() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bob,
    ):
        for sock in (one, other, bob):
            sock.bind(("127.0.0.1", 0))
        forwarder = compiled.Forwarder([(one.fileno(), int(C)), (other.fileno(), int(C))], True)
        forwarder.add(1, bob.getsockname(), BOB, SESSION, 7)
        forwarder.start()
        bob.settimeout(PATIENCE_SECONDS)
        for sock in (one, other):
            bob.sendto(encode_ping(BOB, SESSION), sock.getsockname())
        assert bob.recvfrom(100) == (VALID, other.getsockname())
        while not (taken := forwarder.take(10)):
            pass
        assert taken == [(0, encode_ping(BOB, SESSION), bob.getsockname(), None)]
        forwarder.stop()
