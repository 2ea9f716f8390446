"""A relay that is stopped for longer than anybody may be silent: a hypervisor's pause, a debugger."""

import threading
from contextlib import ExitStack

from tests.integration import holding
from tests.integration.config import new_session
from tests.integration.conftest import StartRelay
from tests.integration.peers import DATA, GOES_ON, OPENS_CONNECTION, VALID

USER_TIMEOUT_SECONDS = 3.0
PING_INTERVAL_SECONDS, PINGS = 0.5, 10
PLAYERS = 40


def test_after_a_pause_everybody_plays_on(start_relay: StartRelay, forwarder: str) -> None:
    """Their datagrams wait in the sockets, and are judged before anybody is called silent."""
    del forwarder  # `start_relay` asks for it
    session = new_session("paused", players=PLAYERS)
    relay = start_relay([session], {"limits": {"user_timeout": USER_TIMEOUT_SECONDS}})
    with ExitStack() as stack:
        host = stack.enter_context(relay.host(session))
        assert host.ping() == VALID
        players = [stack.enter_context(relay.player(session, number)) for number in range(PLAYERS)]
        ids = []
        for player in players:
            player.say(OPENS_CONNECTION)
            ids.append(host.hear()[0])
        with holding.all_of(relay):
            for _ in range(PINGS):
                for peer in (host, *players):
                    peer.send_ping()
                # It is the time that the test is about.
                threading.Event().wait(PING_INTERVAL_SECONDS)
        holding.until_read(relay.address("client"), relay.address("server"))
        for player in players:
            player.say(GOES_ON)
        heard: dict[int, bytes] = {}
        while len(heard) < PLAYERS:
            datagram = host.receive()
            if datagram[:1] == DATA:
                heard[int.from_bytes(datagram[1:5], "little")] = datagram[5:]
        assert heard == dict.fromkeys(ids, GOES_ON)
        bound = relay.log_lines(event="user bound")
        assert len(bound) == 1 + PLAYERS, "nobody came anew"
        assert relay.log_lines(event="user unbound, silent for too long") == []
