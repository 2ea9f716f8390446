"""A storm of junk at one port: the relay stays alive, counts it, and serves the others."""

import random
import socket
import struct

import pytest

from tests.integration.config import new_sessions, new_token
from tests.integration.conftest import StartRelay
from tests.integration.peers import OPENS_CONNECTION, VALID
from tests.integration.relay_process import Counts, counted, told
from tests.integration.waiting import eventually

pytestmark = pytest.mark.usefixtures("forwarder")

STORM = 20_000
BATCH = 200
"""Few enough to fit into the relay's receive buffer, so that not one goes uncounted."""


def junk(chance: random.Random, session: int) -> tuple[str, bytes]:
    """Random bytes of one kind, and the verdict they deserve at the client port."""
    kind = chance.randrange(6)
    noise = chance.randbytes(chance.randrange(1, 1180))
    if kind == 0:
        return "too_short", noise[:8]
    if kind == 1:
        return "too_long", chance.randbytes(1201 + chance.randrange(700))
    if kind == 2:
        return "unknown_type", chance.randbytes(8) + bytes((3 + chance.randrange(253),)) + noise
    if kind == 3:
        return "no_payload", struct.pack("<IIB", new_token(), session, 2)
    # Half of it with the token of a session that is there.
    token = session if kind == 4 else new_token()
    return "unknown_pair", struct.pack("<IIB", chance.randrange(1 << 28), token, 1 + chance.randrange(2)) + noise


def test_a_counted_storm(start_relay: StartRelay) -> None:
    hit, played = new_sessions("hit", "played")
    relay = start_relay([hit, played], {"limits": {"refusals_per_second": 100}})
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    stormers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
    with relay.host(played) as host, relay.player(played) as player:
        assert host.ping() == VALID
        player.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
        before = relay.counts()
        sent: dict[str, list[bytes]] = {}
        forth: list[bytes] = []
        back: list[bytes] = []
        for number in range(STORM // BATCH):
            for index in range(BATCH):
                verdict, datagram = junk(chance, hit.token)
                sent.setdefault(verdict, []).append(datagram)
                stormers[index % len(stormers)].sendto(datagram, relay.address("client"))
            # So that no more waits than is judged at a time: in an overrun it is not told apart what was dropped.
            relay.get("/healthz")
            # In the middle of it, and behind whatever of it still waits in the relay's buffer.
            payload = b"\x02 round %d" % number
            forth.append(player.say(payload))
            assert host.hear() == (connection_id, payload), f"seed {seed}"
            back.append(host.say(connection_id, payload))
            assert player.hear() == payload, f"seed {seed}"
        expected: Counts = {**counted("client", "forwarded", *forth), **counted("server", "forwarded", *back)}
        for verdict, datagrams in sent.items():
            expected |= counted("client", verdict, *datagrams)
        moved = relay.counted_since(before, STORM + len(forth) + len(back))
        answered = moved["client told invalid"].datagrams
        assert moved == {**expected, **told("client", "invalid", answered)}, f"seed {seed}"
        assert 0 < answered < len(sent["unknown_pair"])
    for stormer in stormers:
        stormer.close()


def test_a_storm_that_overruns_the_relay(start_relay: StartRelay) -> None:
    """As fast as it can be sent: much of it the kernel drops, players' datagrams among it. Then all is as before."""
    hit, played = new_sessions("hit", "played")
    relay = start_relay([hit, played], {"relay": {"receive_buffer_bytes": 1 << 16}})
    with relay.host(played) as host, relay.player(played) as player, relay.player(hit) as stormer:
        assert {host.ping(), player.ping()} == {VALID}
        chance = random.Random(7)
        before = relay.counts()
        for _ in range(STORM):
            stormer.send(junk(chance, hit.token)[1])
        player.ping_until(VALID)
        player.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
        host.say(connection_id, b"the storm is over")
        assert player.hear() == b"the storm is over"
        assert host.ping() == VALID
        eventually(lambda: relay.get("/healthz") == (200, "ok\n"), "it answers")
        counted_in_all = sum(count.datagrams for count in relay.counts().values())
        assert counted_in_all >= sum(count.datagrams for count in before.values())
    assert relay.process.poll() is None
