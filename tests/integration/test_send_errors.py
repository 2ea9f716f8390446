"""What the kernel does not send is dropped and counted, and sending goes on by itself. In networks of their own."""

from tests.integration.cable import PLAYER_IP, RELAY_IP, Cabled, with_cable
from tests.integration.peers import VALID
from tests.integration.relay_process import counted

BURST = 100
PAYLOAD = b"x" * 1000


@with_cable
def test_send_queue_full(cabled: Cabled) -> None:
    """Nobody answers ARP, so that datagrams wait for it in the kernel, where they take up the socket's send buffer."""
    relay, here, host, player = cabled.relay, cabled.here, cabled.host, cabled.player
    here.set("ipv4/neigh/cable/mcast_solicit", 10_000)
    here.set("ipv4/neigh/cable/retrans_time_ms", 50)
    cabled.there.ip("link", "set", "cable", "arp", "off")
    here.ip("neighbour", "flush", "dev", "cable")
    before = here.run(relay.counts)
    burst = [host.say(cabled.connection_id, PAYLOAD) for _ in range(BURST)]
    moved = here.run(relay.counted_since, before, BURST)
    taken = moved["server forwarded"].datagrams
    assert 0 < taken < BURST
    assert moved == {
        **counted("server", "forwarded", *burst[:taken]),
        **counted("server", "send_queue_full", *burst[taken:]),
    }
    shown = here.run(relay.get_json, f"/v1/sessions/{cabled.session.session_id}")
    assert shown["drops"] == {"send_queue_full": BURST - taken}
    assert shown["to_player"]["datagrams"] == taken
    assert player.received_by_now() == []

    # Other ports and addresses have nothing to do with it.
    assert host.ping() == VALID

    # The other end answers: what the kernel took arrives, and everything after that as if nothing had been.
    cabled.there.ip("link", "set", "cable", "arp", "on")
    assert [player.hear() for _ in range(taken)] == [PAYLOAD] * taken
    for number in range(BURST):
        host.say(cabled.connection_id, b"number %d" % number)
        assert player.hear() == b"number %d" % number


@with_cable
def test_no_buffers(cabled: Cabled) -> None:
    """ENOBUFS: the fragments of one datagram take twice the socket's send buffer (__ip_append_data of the kernel)."""
    relay, here, host, player = cabled.relay, cabled.here, cabled.host, cabled.player
    for side in (here, cabled.there):
        side.ip("link", "set", "cable", "mtu", "68")
    before = here.run(relay.counts)
    lost = [host.say(cabled.connection_id, PAYLOAD) for _ in range(BURST)]
    assert here.run(relay.counted_since, before, BURST) == counted("server", "send_queue_full", *lost)
    assert here.run(relay.get_json, f"/v1/sessions/{cabled.session.session_id}")["drops"] == {"send_queue_full": BURST}

    # What needs fewer of them gets through, and so does everything once there are enough.
    host.say(cabled.connection_id, PAYLOAD[:100])
    assert player.hear() == PAYLOAD[:100]
    for side in (here, cabled.there):
        side.ip("link", "set", "cable", "mtu", "1500")
    host.say(cabled.connection_id, PAYLOAD)
    assert player.hear() == PAYLOAD


@with_cable
def test_send_failed(cabled: Cabled) -> None:
    relay, here, host, player = cabled.relay, cabled.here, cabled.host, cabled.player
    before = here.run(relay.counts)
    here.ip("route", "delete", "10.77.0.0/24", "dev", "cable")
    failed = [host.say(cabled.connection_id, PAYLOAD) for _ in range(BURST)]
    assert here.run(relay.counted_since, before, BURST) == counted("server", "send_failed", *failed)
    assert here.run(relay.get_json, f"/v1/sessions/{cabled.session.session_id}")["drops"] == {"send_failed": BURST}

    here.ip("route", "add", "10.77.0.0/24", "dev", "cable", "src", RELAY_IP)
    arrives = host.say(cabled.connection_id, b"there again")
    assert player.hear() == b"there again"
    here.run(
        relay.assert_counted, before, counted("server", "send_failed", *failed), counted("server", "forwarded", arrives)
    )


@with_cable
def test_a_ping_that_cannot_be_answered(cabled: Cabled) -> None:
    """The way back is gone while the way here is not."""
    relay, here = cabled.relay, cabled.here
    for interface in ("all", "cable"):
        here.set(f"ipv4/conf/{interface}/rp_filter", 0)
    before = here.run(relay.counts)
    here.ip("route", "add", "unreachable", f"{PLAYER_IP}/32")
    lost = cabled.player.send_ping()
    assert here.run(relay.counted_since, before, 1) == counted("client", "send_failed", lost)
    here.ip("route", "delete", "unreachable", f"{PLAYER_IP}/32")
    assert cabled.player.ping() == VALID
