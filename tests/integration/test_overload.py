"""More strangers than relayd can judge: those who play do not notice, and every datagram is counted once.

The relay is stopped while they send, so that it finds all of it at once, and nothing is lost before it is counted.
"""

import os
import signal
from contextlib import ExitStack

from tests.integration.config import new_session, new_token
from tests.integration.conftest import StartRelay
from tests.integration.peers import OPENS_CONNECTION, PING, VALID, Player
from tests.integration.relay_process import Count, Counts, RelayProcess
from tests.thread.compiled import needs_native

ADDRESSES = [f"127.0.0.{last}" for last in range(1, 25)]
"""Each has sockets of its own, so that their buffers together hold more than relayd does."""
STRANGERS = 250
"""Datagrams to each of those sockets: as many as the smallest buffer there is holds."""
ROUNDS = 20
OWN = 50

pytestmark = needs_native


def test_overloaded(start_relay: StartRelay) -> None:
    keys = new_session("played")
    relay = start_relay([keys], {"relay": {"bind": ADDRESSES, "forwarder": "native"}})
    with ExitStack() as stack:
        host, player = stack.enter_context(relay.host(keys)), stack.enter_context(relay.player(keys))
        stranger = stack.enter_context(Player(relay.address("client"), new_token(), new_token()))
        junk = stranger.header + PING
        assert host.ping() == VALID
        player.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
        host.say(connection_id, b"welcome")
        player.hear()
        before = relay.counts()
        for turn in range(1, ROUNDS + 1):
            said = [b"%d of round %d" % (number, turn) for number in range(OWN)]
            with _Stopped(relay):
                for port in ("server", "client"):
                    for number in range(STRANGERS):
                        for ip in ADDRESSES:
                            stranger.socket.sendto(junk, relay.address(port, ip))
                        if number % (STRANGERS // OWN) == 0 and port == "client":
                            player.say(said[number // (STRANGERS // OWN)])
            assert [host.hear() for _ in said] == [(connection_id, payload) for payload in said]
            sent = turn * len(ADDRESSES) * 2 * STRANGERS
            moved = relay.counted_since(before, sent + turn * OWN)
            assert moved.pop("client forwarded").datagrams == turn * OWN
            judged, overloaded = _take_out(moved, "unknown_pair"), _take_out(moved, "overloaded")
            assert all(" told " in key for key in moved)
            assert judged.datagrams + overloaded.datagrams == sent
            assert judged.bytes + overloaded.bytes == sent * len(junk)
            if overloaded.datagrams:
                return
    raise AssertionError("relayd judged all of it")


def _take_out(counts: Counts, verdict: str) -> Count:
    found = [counts.pop(f"{port} {verdict}", Count(0, 0)) for port in ("server", "client")]
    return Count(sum(one.datagrams for one in found), sum(one.bytes for one in found))


class _Stopped:
    """Holds the relay's process still."""

    def __init__(self, relay: RelayProcess) -> None:
        self._process = relay.process.pid

    def __enter__(self) -> None:
        os.kill(self._process, signal.SIGSTOP)

    def __exit__(self, *error: object) -> None:
        os.kill(self._process, signal.SIGCONT)
