"""Counts are taken while datagrams are on their way: what the kernel refuses then is counted back, and no harm done."""

import struct

from relayd.core.views import DECIDED_BY_FORWARDER
from relayd.core.wire import Port, encode_ping
from tests.native import compiled
from tests.native.rig import ALICE, SESSION, VALID, C, Rig

pytestmark = compiled.needs_native

ANSWERED = 1
SLOT = 7
PING = encode_ping(ALICE, SESSION)


def test_a_total_below_zero_stays_until_as_much_came_again() -> None:
    counts = compiled.memory()
    answered_at = counts.totals_at + 16 * (Port.CLIENT * len(DECIDED_BY_FORWARDER) + ANSWERED)
    struct.pack_into("<qq", counts.memory, answered_at, -2, -2 * len(PING))
    with Rig(started=False) as rig:
        endpoints = [(rig.sockets[port].fileno(), int(port)) for port in Port]
        forwarder = compiled.BareForwarder(endpoints, True, *counts)
        alice = rig.peer()
        forwarder.add(SLOT, int(C), alice.getsockname(), ALICE, SESSION, 1)
        assert forwarder.take_totals()[Port.CLIENT][ANSWERED] == (0, 0)
        forwarder.start()
        for _ in range(3):
            rig.send(alice, C, PING)
            assert alice.recv(100) == VALID
        forwarder.stop()
        assert forwarder.take_totals()[Port.CLIENT][ANSWERED] == (1, len(PING))


def test_counts_of_a_binding_below_zero_stay_too() -> None:
    counts = compiled.memory()
    at = counts.counts_at + SLOT * counts.stride_bytes + 8
    struct.pack_into("<6q", counts.memory, at, -1, -15, 3, 300, 0, 1)
    with Rig(started=False) as rig:
        endpoints = [(rig.sockets[port].fileno(), int(port)) for port in Port]
        forwarder = compiled.BareForwarder(endpoints, True, *counts)
        assert forwarder.take_counts(SLOT) == (0, 0, 3, 300, 0, 1)
        assert struct.unpack_from("<6q", counts.memory, at) == (-1, -15, 0, 0, 0, 0)
