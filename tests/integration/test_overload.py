"""More strangers than relayd can judge: those who play do not notice, and every datagram is counted once.

Whoever judges is held still while they send, so that it is no matter of speed whether it keeps up.
"""

from contextlib import ExitStack

from tests.integration import holding
from tests.integration.config import new_session, new_token
from tests.integration.conftest import StartRelay
from tests.integration.peers import OPENS_CONNECTION, PING, VALID, Player
from tests.integration.relay_process import Count, Counts
from tests.thread.compiled import needs_native

PASSED_UP = 2048
"""forwarder.h: as many datagrams wait for whoever judges."""
BATCH = 128
"""As many as the smallest receive buffer there is holds."""
BATCHES = 2 * PASSED_UP // BATCH

pytestmark = needs_native


def test_overloaded(start_relay: StartRelay) -> None:
    keys = new_session("played")
    relay = start_relay([keys], {"relay": {"forwarder": "native"}})
    with ExitStack() as stack:
        host, player = stack.enter_context(relay.host(keys)), stack.enter_context(relay.player(keys))
        ports = [relay.address(port) for port in ("server", "client")]
        strangers = [stack.enter_context(Player(port, new_token(), new_token())) for port in ports]
        assert host.ping() == VALID
        player.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
        host.say(connection_id, b"welcome")
        player.hear()
        before = relay.counts()
        with holding.owner_of(relay):
            for batch in range(BATCHES):
                for stranger in strangers:
                    for _ in range(BATCH):
                        stranger.send_ping()
                holding.until_read(*ports)
                player.say(b"in the middle of it, %d" % batch)
                assert host.hear() == (connection_id, b"in the middle of it, %d" % batch)
        sent = len(strangers) * BATCHES * BATCH
        moved = relay.counted_since(before, sent + BATCHES)
        assert moved.pop("client forwarded").datagrams == BATCHES
        judged, overloaded = _take_out(moved, "unknown_pair"), _take_out(moved, "overloaded")
        assert all(" told " in key for key in moved)
        assert judged.datagrams == PASSED_UP
        assert judged.datagrams + overloaded.datagrams == sent
        assert judged.bytes + overloaded.bytes == sent * len(strangers[0].header + PING)


def _take_out(counts: Counts, verdict: str) -> Count:
    found = [counts.pop(f"{port} {verdict}", Count(0, 0)) for port in ("server", "client")]
    return Count(sum(one.datagrams for one in found), sum(one.bytes for one in found))
