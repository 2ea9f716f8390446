"""A datagram never overtakes an older one that is still on its way through the owner."""

import socket
import time
from collections.abc import Callable

from relayd.core.verdict import Verdict
from relayd.core.wire import encode_host_data, encode_ping, encode_player_data
from tests.thread import compiled
from tests.thread.rig import ALICE, BOB, HOST, SESSION, C, Rig, S, heard_by_now, received

pytestmark = compiled.needs_native

SETTLES_SECONDS = 0.25
"""forwarder.h: after so long a flow waits no more. What is shown here has to be shown within that time."""
ATTEMPTS = 50

BURST = 20
TURNS = 150


class TooSlowError(Exception):
    """The flow need not have waited any more."""


class Deadline:
    def __init__(self) -> None:
        self._ends = time.monotonic() + SETTLES_SECONDS

    def check(self) -> None:
        """To be called when the thread has decided on what was sent."""
        if time.monotonic() >= self._ends:
            raise TooSlowError


def until_fast_enough(attempt: Callable[[Rig], None]) -> None:
    for _ in range(ATTEMPTS):
        with Rig() as rig:
            try:
                attempt(rig)
            except TooSlowError:
                continue
            return
    raise AssertionError(f"never within {SETTLES_SECONDS} s in {ATTEMPTS} attempts")


def from_alice(number: int) -> bytes:
    return encode_player_data(ALICE, SESSION, b"%d" % number)


def at_host(number: int, connection_id: int = 7) -> bytes:
    return b"\x02" + connection_id.to_bytes(4, "little") + b"%d" % number


def taken(rig: Rig, limit: int = 100) -> list[bytes]:
    return [data for _, data, *_ in rig.forwarder.take(limit)]


def test_a_flow_waits_for_what_was_passed_up_before_it() -> None:
    until_fast_enough(a_flow_waits)


def a_flow_waits(rig: Rig) -> None:
    host, alice = rig.peer(), rig.peer()
    rig.bind(host, S, HOST)
    rig.send(alice, C, from_alice(0), from_alice(1))
    rig.fence(C)

    deadline = Deadline()
    rig.bind(alice, C, ALICE, connection_id=7)
    rig.send(alice, C, from_alice(2))
    rig.fence(C)
    deadline.check()
    assert taken(rig) == [from_alice(0), from_alice(1), from_alice(2)]

    # Taken is not judged: to ask for more is what says so.
    rig.send(alice, C, from_alice(3))
    rig.fence(C)
    deadline.check()
    assert heard_by_now(host) == []
    assert taken(rig) == [from_alice(3)]
    assert taken(rig) == []

    rig.send(alice, C, from_alice(4), from_alice(5))
    assert received(host, 2) == [at_host(4), at_host(5)]
    assert taken(rig) == []


def test_others_do_not_wait_for_a_new_flow() -> None:
    until_fast_enough(others_do_not_wait)


def others_do_not_wait(rig: Rig) -> None:
    host, alice, bob = rig.peer(), rig.peer(), rig.peer()
    rig.bind(host, S, HOST)
    rig.bind(bob, C, BOB, connection_id=8)
    rig.send(alice, C, from_alice(0))
    rig.fence(C)

    deadline = Deadline()
    rig.bind(alice, C, ALICE, connection_id=7)
    rig.send(bob, C, encode_player_data(BOB, SESSION, b"1"))
    assert host.recv(100) == at_host(1, connection_id=8)
    rig.send(host, S, encode_host_data(HOST, SESSION, 7, b"to alice"))
    # Nor does a host wait with what it sends to others than the new one.
    rig.send(host, S, encode_host_data(HOST, SESSION, 8, b"to bob"))
    assert bob.recv(100) == b"\x02to bob"
    deadline.check()
    assert taken(rig) == [from_alice(0), encode_host_data(HOST, SESSION, 7, b"to alice")]


def test_an_old_sender_waits_for_what_it_sent_to_a_new_receiver() -> None:
    until_fast_enough(an_old_sender_waits)


def an_old_sender_waits(rig: Rig) -> None:
    """The receiver's own wait is over before what was passed up because of it is judged."""
    host, alice, stranger = rig.peer(), rig.peer(), rig.peer()
    rig.bind(host, S, HOST)
    until_old(rig, host)
    rig.send(stranger, C, b"junk")
    rig.fence(C)

    deadline = Deadline()
    rig.bind(alice, C, ALICE, connection_id=7)
    first, second, third = (encode_host_data(HOST, SESSION, 7, b"%d" % number) for number in range(3))
    rig.send(host, S, first)
    rig.fence(S)
    deadline.check()
    assert taken(rig, 1) == [b"junk"]
    assert taken(rig, 1) == [first]
    rig.send(host, S, second)
    rig.fence(S)
    rig.fence(C)
    deadline.check()
    assert heard_by_now(alice) == []
    assert rig.drain() == [(int(S), second, host.getsockname())]
    rig.send(host, S, third)
    assert alice.recv(100) == b"\x022"


def until_old(rig: Rig, host: socket.socket) -> None:
    """Until a flow that was added before this is one that waits for nothing."""
    added = time.monotonic()
    while time.monotonic() < added + SETTLES_SECONDS:
        time.sleep(SETTLES_SECONDS / 10)
    rig.send(host, S, encode_ping(HOST, SESSION))
    assert host.recv(100) == b"\x01\x02"


def test_an_owner_who_does_not_ask_does_not_keep_a_flow_for_ever() -> None:
    with Rig() as rig:
        host, alice = rig.peer(), rig.peer()
        rig.bind(host, S, HOST)
        rig.send(alice, C, from_alice(0))
        rig.fence(C)
        rig.bind(alice, C, ALICE, connection_id=7)
        until_old(rig, host)
        rig.send(alice, C, from_alice(1))
        assert host.recv(100) == at_host(1)
        assert taken(rig) == [from_alice(0)]


def test_a_sender_is_heard_in_order_while_its_flow_comes_and_goes() -> None:
    until_fast_enough(a_flow_comes_and_goes)


def a_flow_comes_and_goes(rig: Rig) -> None:
    """The owner does what the engine would, now slower and now faster than datagrams come."""
    host, alice = rig.peer(), rig.peer()
    rig.bind(host, S, HOST)
    heard: list[bytes] = []

    def own(limit: int) -> int:
        datagrams = taken(rig, limit)
        for data in datagrams:
            rig.sockets[S].sendto(at_host(0)[:5] + data[9:], host.getsockname())
        return len(datagrams)

    for turn in range(TURNS):
        rig.send(alice, C, *map(from_alice, range(turn * BURST, (turn + 1) * BURST)))
        own((0, BURST // 2, 10 * BURST, 10 * BURST)[turn % 4])
        if turn % 5 == 0:
            slot, deadline = rig.bind(alice, C, ALICE, connection_id=7), Deadline()
            # So that no buffer overflows.
            rig.fence(C)
        elif turn % 5 == 4:
            rig.forwarder.remove(slot)
            deadline.check()
        heard += heard_by_now(host)
    rig.fence(C)
    while own(BURST):
        heard += heard_by_now(host)
    heard += received(host, TURNS * BURST - len(heard))
    assert heard == list(map(at_host, range(TURNS * BURST)))
    assert 0 < rig.totals()[C, Verdict.FORWARDED][0] < len(heard)
