"""What the kernel does not take is counted as just that, and the rest goes on. In networks of their own."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from relayd.core.verdict import Verdict
from relayd.core.wire import encode_host_data, encode_ping, encode_player_data
from tests.integration.namespaces import Namespace, connect, may_make_networks, missing_program
from tests.integration.waiting import eventually
from tests.thread import compiled
from tests.thread.rig import ALICE, BOB, HOST, SESSION, VALID, C, Rig, S, heard_by_now, received

pytestmark = [
    compiled.needs_native,
    pytest.mark.skipif(missing_program() is not None, reason=f"needs {missing_program()}"),
    pytest.mark.skipif(not may_make_networks(), reason="needs the right to make network namespaces"),
]

RELAY_IP, FAR_IP = "10.77.0.1", "10.77.0.2"
BURST = 60
"""Less than a batch, and it waits in the socket until the thread starts: so it is one."""
DO_FRAGMENT, DO_NOT_FRAGMENT = 0, 2
"""IP_PMTUDISC_DONT and IP_PMTUDISC_DO of ip(7)."""
IP_MTU_DISCOVER = 10


class Cabled(NamedTuple):
    """The relay with host and one player on one side of a cable, another player on the far side."""

    rig: Rig
    here: Namespace
    there: Namespace
    host: socket.socket
    near: socket.socket
    far: socket.socket
    slots: dict[str, int]


@pytest.fixture(params=[True, False], ids=["merged", "one by one"])
def cabled(request: pytest.FixtureRequest) -> Iterator[Cabled]:
    with ExitStack() as stack:
        here, there = stack.enter_context(Namespace()), stack.enter_context(Namespace())
        connect(here, RELAY_IP, there, FAR_IP)
        rig = stack.enter_context(Rig(RELAY_IP, request.param, started=False, run=here.run))
        host, near, far = rig.peer(), rig.peer(), rig.peer(FAR_IP, there.run)
        slots = {
            "host": rig.bind(host, S, HOST),
            "near": rig.bind(near, C, BOB, connection_id=8),
            "far": rig.bind(far, C, ALICE, connection_id=7),
        }
        yield Cabled(rig, here, there, host, near, far, slots)


def to_far(number: int, size: int = 100) -> bytes:
    return encode_host_data(HOST, SESSION, 7, b"%*d" % (size, number))


def to_near(number: int) -> bytes:
    return encode_host_data(HOST, SESSION, 8, b"%*d" % (100, number))


def run_once(cabled: Cabled) -> None:
    """Has the thread handle what waits in its sockets, to the end."""
    cabled.rig.forwarder.start()
    for port in (S, C):
        cabled.rig.fence(port)
    cabled.rig.forwarder.stop()


@pytest.mark.parametrize("route", ["unreachable", "prohibit", "blackhole", None])
def test_what_has_no_way_is_counted_as_failed_and_stops_nobody_else(cabled: Cabled, route: str | None) -> None:
    rig, here = cabled.rig, cabled.here
    if route is None:
        here.ip("route", "delete", "10.77.0.0/24", "dev", "cable")
    else:
        here.ip("route", "add", route, f"{FAR_IP}/32")
    for number in range(BURST // 2):
        rig.send(cabled.host, S, to_far(number), to_near(number))
    run_once(cabled)
    assert received(cabled.near, BURST // 2) == [b"\x02" + to_near(number)[13:] for number in range(BURST // 2)]
    size = len(to_far(0)) * BURST // 2
    assert rig.totals() == {
        (S, Verdict.FORWARDED): (BURST // 2, size),
        (S, Verdict.SEND_FAILED): (BURST // 2, size),
    }
    assert rig.forwarder.counts(cabled.slots["far"]) == (0, 0, 0, 0, 0, BURST // 2)
    assert rig.forwarder.counts(cabled.slots["near"]) == (0, 0, BURST // 2, size, 0, 0)
    assert rig.forwarder.remove(cabled.slots["far"]) == (0, 0, 0, 0, 0, BURST // 2)


def test_an_answer_that_has_no_way_is_counted_as_failed_and_for_nobody(cabled: Cabled) -> None:
    rig, here = cabled.rig, cabled.here
    for interface in ("all", "cable"):
        here.set(f"ipv4/conf/{interface}/rp_filter", 0)
    here.ip("route", "add", "unreachable", f"{FAR_IP}/32")
    ping = encode_ping(ALICE, SESSION)
    rig.forwarder.start()
    rig.send(cabled.far, C, ping, ping)
    rig.send(cabled.near, C, encode_ping(BOB, SESSION))
    assert cabled.near.recv(100) == VALID
    expected = {
        (C, Verdict.ANSWERED): (1, len(ping)),
        (C, Verdict.SEND_FAILED): (2, 2 * len(ping)),
    }
    eventually(lambda: rig.totals() == expected, "what came over the cable is counted")
    assert rig.forwarder.counts(cabled.slots["far"]) == (0, 0, 0, 0, 0, 0)


def test_data_to_a_host_that_has_no_way_is_counted_for_its_players(cabled: Cabled) -> None:
    rig = cabled.rig
    rig.forwarder.remove(cabled.slots["host"])
    rig.bind(cabled.far, S, HOST)
    cabled.here.ip("route", "add", "unreachable", f"{FAR_IP}/32")
    data = encode_player_data(BOB, SESSION, bytes(100))
    rig.send(cabled.near, C, *[data] * BURST)
    run_once(cabled)
    assert rig.totals() == {(C, Verdict.SEND_FAILED): (BURST, BURST * len(data))}
    assert rig.forwarder.counts(cabled.slots["near"]) == (0, 0, 0, 0, 0, BURST)


def test_a_full_send_buffer_drops_what_does_not_fit(cabled: Cabled) -> None:
    """Nobody answers ARP: what was sent waits for it in the kernel, and takes up the socket's send buffer."""
    rig, here = cabled.rig, cabled.here
    rig.sockets[C].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    here.set("ipv4/neigh/cable/mcast_solicit", 10_000)
    here.set("ipv4/neigh/cable/retrans_time_ms", 50)
    cabled.there.ip("link", "set", "cable", "arp", "off")
    here.ip("neighbour", "flush", "dev", "cable")
    sent = 0
    # The first message always finds room, and with merging it may hold all of a batch.
    for _ in range(3):
        rig.send(cabled.host, S, *[to_far(number, 1000) for number in range(sent, sent + BURST)])
        rig.forwarder.start()
        rig.fence(S)
        rig.forwarder.stop()
        sent += BURST
    totals = rig.totals()
    size = len(to_far(0, 1000))
    taken, full = (totals[S, verdict][0] for verdict in (Verdict.FORWARDED, Verdict.SEND_QUEUE_FULL))
    assert taken + full == sent
    assert totals == {
        (S, Verdict.FORWARDED): (taken, taken * size),
        (S, Verdict.SEND_QUEUE_FULL): (full, full * size),
    }
    assert rig.forwarder.counts(cabled.slots["far"]) == (0, 0, taken, taken * size, full, 0)

    cabled.there.ip("link", "set", "cable", "arp", "on")
    assert received(cabled.far, taken) == [b"\x02" + to_far(number, 1000)[13:] for number in range(taken)]
    rig.forwarder.start()
    for number in range(10):
        rig.send(cabled.host, S, to_far(number))
        assert cabled.far.recv(2000) == b"\x02" + to_far(number)[13:]


def test_what_is_too_long_for_the_link_fails_alone(cabled: Cabled) -> None:
    rig = cabled.rig
    cabled.here.ip("link", "set", "cable", "mtu", "600")
    rig.sockets[C].setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, DO_NOT_FRAGMENT)
    sizes = [(100, 1000)[number % 7 > 3] for number in range(BURST)]
    rig.send(cabled.host, S, *[to_far(number, size) for number, size in enumerate(sizes)])
    run_once(cabled)
    fit = [to_far(number, size) for number, size in enumerate(sizes) if size == 100]
    assert received(cabled.far, len(fit)) == [b"\x02" + one[13:] for one in fit]
    failed = len(sizes) - len(fit)
    assert rig.totals() == {
        (S, Verdict.FORWARDED): (len(fit), sum(map(len, fit))),
        (S, Verdict.SEND_FAILED): (failed, failed * len(to_far(0, 1000))),
    }


def test_what_can_only_go_in_fragments_arrives_too(cabled: Cabled) -> None:
    rig = cabled.rig
    cabled.here.ip("link", "set", "cable", "mtu", "600")
    rig.sockets[C].setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, DO_FRAGMENT)
    rig.send(cabled.host, S, *[to_far(number, 1000) for number in range(BURST)])
    run_once(cabled)
    assert received(cabled.far, BURST) == [b"\x02" + to_far(number, 1000)[13:] for number in range(BURST)]
    assert rig.totals() == {(S, Verdict.FORWARDED): (BURST, BURST * len(to_far(0, 1000)))}


def test_link_local_peers_are_told_apart_by_their_link() -> None:
    with Namespace() as here:
        for name in ("left", "right"):
            here.ip("link", "add", name, "type", "veth", "peer", "name", f"far-{name}")
            here.ip("link", "set", f"far-{name}", "up")
            here.ip("link", "set", name, "up")
            here.ip("address", "add", "fe80::1/64", "dev", name, "nodad")
        with Rig("::", run=here.run) as rig:
            scopes = {name: here.run(socket.if_nametoindex, name) for name in ("left", "right")}
            peers = {name: here.run(_link_local, scope) for name, scope in scopes.items()}
            ping = encode_ping(ALICE, SESSION)
            try:
                rig.bind(peers["left"], C, ALICE)

                def pings(name: str) -> None:
                    peers[name].sendto(ping, ("fe80::1", rig.address(C)[1], 0, scopes[name]))

                def answered() -> list[bytes]:
                    pings("left")
                    return heard_by_now(peers["left"])

                def passed_up() -> list[Any]:
                    pings("right")
                    return rig.drain()

                # More than once: a link that has just come up may still lose some.
                assert set(eventually(answered, "the one that is bound is answered")) == {VALID}
                source = ("fe80::1", peers["right"].getsockname()[1], 0, scopes["right"])
                assert eventually(passed_up, "the other is passed up")[-1] == (int(C), ping, source)
                assert heard_by_now(peers["right"]) == []
            finally:
                for peer in peers.values():
                    peer.close()


def _link_local(scope: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    # The same port for both: only the link differs.
    sock.bind(("fe80::1", 40077, 0, scope))
    return sock


def test_what_is_taken_down_in_the_middle_of_a_failing_send_is_never_wrong(cabled: Cabled) -> None:
    rig = cabled.rig
    cabled.here.ip("route", "add", "unreachable", f"{FAR_IP}/32")
    bare, slot = rig.forwarder.bare, cabled.slots["far"]
    rig.forwarder.start()
    rounds, done = 50, 0
    failed = Verdict.SEND_FAILED
    for number in range(rounds):
        rig.send(cabled.host, S, *[to_far(number)] * BURST)
        while done < (number + 1) * BURST:
            counts = bare.take_counts(slot)
            decided = dict(zip(Verdict, bare.take_totals()[S], strict=True))
            assert counts[:5] == (0, 0, 0, 0, 0)
            assert decided.pop(failed)[0] <= BURST
            done += counts[5]
            assert set(decided.values()) == {(0, 0)}
    assert done == rounds * BURST
