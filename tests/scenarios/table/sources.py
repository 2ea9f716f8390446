"""Where no datagram can rightly come from."""

from tests.scenarios.cast import AT_RELAY, HOST, ONE, STRANGER, hosts, joins, pings, sends
from tests.scenarios.scenario import NOT_FROM_A_SOCKET, PROCESSES, Scenario, but
from tests.scenarios.steps import OWN, C, Peer, Ping, S, Send

SOURCES: dict[str, Scenario] = {
    "from the relay itself": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            *[
                Send(Peer(user, OWN, 4, port), port, Ping(), "bad_source")
                for user in (1, 2, STRANGER.user)
                for port in (S, C)
            ],
            Send(Peer(2, OWN, 6, S), S, Ping(), "bad_source"),
            sends(ONE),
        ],
        without=but("only a relay has its own sockets; tests/integration/test_abuse.py invents them", *PROCESSES),
    ),
    "from a denied network": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            pings(Peer(2, 4), "bad_source"),
            pings(Peer(2, 5), "bad_source"),
            pings(STRANGER, "bad_source"),
            pings(Peer(2, 6)),
            pings(Peer(1, 4), "bad_source"),
        ],
        # By the place of each peer, in all of the networks that they are played in.
        {"denied_networks": ["10.77.0.54/31", "127.77.0.54/31"]},
    ),
    "from where nobody can be": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            *[
                Send(Peer(user, *source), port, Ping(), "bad_source")
                for user in (1, 2, STRANGER.user)
                for port in (S, C)
                for source in (
                    (7, 4, 0),
                    (7, 6, 0),
                    ("0.1.2.3", 4),
                    ("224.0.0.1", 4),
                    ("239.255.255.255", 4),
                    ("240.0.0.1", 4),
                    ("255.255.255.255", 4),
                    ("::", 6),
                    ("ff02::1", 6),
                )
            ],
            sends(ONE),
        ],
        without=NOT_FROM_A_SOCKET,
    ),
    "from a relay's port at another address, and from another port at the relay's": Scenario(
        [*hosts(HOST), pings(Peer(1, 2, 4, C)), pings(Peer(2, AT_RELAY)), pings(Peer(2, AT_RELAY))],
        without=but("peers have one UDP port each, and other addresses", "uvloop", "thread", *PROCESSES),
    ),
}
