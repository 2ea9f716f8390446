"""Sockets with several addresses: what is sent to a peer leaves from the one that it sends to."""

import socket

import pytest

from relayd.core.endpoint import Address
from relayd.core.verdict import Verdict
from relayd.core.wire import encode_host_data, encode_ping, encode_player_data
from relayd.forwarding.asked import local_of, tell_asked
from tests.thread import compiled
from tests.thread.rig import ALICE, BOB, HOST, SESSION, VALID, C, Rig, S, received

pytestmark = compiled.needs_native

FIRST, SECOND, ABSENT = "127.0.0.1", "127.0.0.7", "192.0.2.1"
both = pytest.mark.parametrize("merge", [True, False])


def packed(ip: str) -> bytes:
    return local_of(socket.inet_aton(ip), 0)


def at(rig: Rig, ip: str, port: int) -> Address:
    return ip, rig.address(S if port == S else C)[1]


def everywhere(merge: bool = True, started: bool = True) -> Rig:
    return Rig("0.0.0.0", merge, started, prepare=tell_asked)


def test_a_ping_is_answered_from_the_address_that_was_asked() -> None:
    with everywhere() as rig:
        alice = rig.peer(FIRST)
        rig.bind(alice, C, ALICE, connection_id=7)
        for ip in (SECOND, FIRST, SECOND):
            alice.sendto(encode_ping(ALICE, SESSION), at(rig, ip, C))
            assert alice.recvfrom(100) == (VALID, at(rig, ip, C))


def test_what_is_passed_up_says_which_address_was_asked() -> None:
    with everywhere() as rig:
        stranger = rig.peer(FIRST)
        datagram = encode_ping(BOB, SESSION)
        stranger.sendto(datagram, at(rig, SECOND, S))
        rig.fence(S)
        assert rig.drain_asked() == [(int(S), datagram, stranger.getsockname(), packed(SECOND))]


def test_a_socket_with_one_address_says_nothing() -> None:
    with Rig(prepare=tell_asked) as rig:
        stranger = rig.peer()
        rig.send(stranger, S, encode_ping(BOB, SESSION))
        rig.fence(S)
        assert [local for *_, local in rig.drain_asked()] == [None]


def test_what_is_forwarded_leaves_from_the_address_its_receiver_asked_last() -> None:
    with everywhere() as rig:
        host, alice = rig.peer(FIRST), rig.peer(FIRST)
        rig.bind(host, S, HOST)
        slot = rig.forwarder.add(int(C), alice.getsockname(), ALICE, SESSION, 7, local=packed(SECOND))
        host.sendto(encode_host_data(HOST, SESSION, 7, b"kept"), at(rig, FIRST, S))
        assert alice.recvfrom(100) == (b"\x02kept", at(rig, SECOND, C))
        alice.sendto(encode_player_data(ALICE, SESSION, b"hello"), at(rig, FIRST, C))
        assert host.recvfrom(100) == (b"\x02\x07\0\0\0hello", at(rig, FIRST, S))
        host.sendto(encode_host_data(HOST, SESSION, 7, b"asked"), at(rig, FIRST, S))
        assert alice.recvfrom(100) == (b"\x02asked", at(rig, FIRST, C))
        rig.fence(S)
        assert rig.forwarder.bare.remove(slot) == (0, 0, packed(FIRST))


@both
def test_one_batch_from_several_addresses_stays_in_order(merge: bool) -> None:
    with everywhere(merge, started=False) as rig:
        alice = rig.peer(FIRST)
        rig.bind(alice, C, ALICE, connection_id=7)
        asked = [FIRST, FIRST, SECOND, SECOND, SECOND, FIRST]
        for ip in asked:
            alice.sendto(encode_ping(ALICE, SESSION), at(rig, ip, C))
        rig.forwarder.start()
        assert [alice.recvfrom(100) for _ in asked] == [(VALID, at(rig, ip, C)) for ip in asked]


@both
def test_an_address_that_has_left_the_host_loses_nothing(merge: bool) -> None:
    with everywhere(merge, started=False) as rig:
        host, alice = rig.peer(FIRST), rig.peer(FIRST)
        rig.bind(host, S, HOST)
        slot = rig.forwarder.add(int(C), alice.getsockname(), ALICE, SESSION, 7, local=packed(ABSENT))
        payloads = [b"number %d" % number for number in range(5)]
        for payload in payloads:
            host.sendto(encode_host_data(HOST, SESSION, 7, payload), at(rig, FIRST, S))
        rig.forwarder.start()
        assert received(alice, len(payloads)) == [b"\x02" + payload for payload in payloads]
        rig.fence(S)
        assert rig.totals()[S, Verdict.FORWARDED][0] == len(payloads)
        assert rig.forwarder.counts(slot)[4:] == (0, 0)


@pytest.mark.parametrize("local", [b"", bytes(3), bytes(16), bytes(21)])
def test_what_is_no_address_is_refused(local: bytes) -> None:
    with Rig() as rig, pytest.raises(ValueError, match="no address of this host"):
        rig.forwarder.add(int(C), ("127.0.0.1", 9), ALICE, SESSION, 7, local=local)
