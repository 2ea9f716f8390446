"""Where no datagram can rightly come from."""

from tests.scenarios.cast import (
    AT_RELAY,
    ERROR,
    HOST,
    INVALID,
    ONE,
    ONE_MOVED,
    STRANGER,
    TWO,
    hosts,
    joins,
    pings,
    sends,
)
from tests.scenarios.scenario import NOT_FROM_A_SOCKET, PROCESSES, REBIND_AFTER, VIRTUAL, Scenario, but
from tests.scenarios.steps import OWN, C, Fleet, Peer, Ping, S, Send, Wait

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
    "from another relay of the fleet": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            *joins(TWO, HOST),
            Fleet((TWO,)),
            sends(ONE),
            # Neither its own user, nor a stranger, nor a host is let in there. Of one who plays elsewhere the kernel
            # program, which does not know the fleet, says what it says of any other address: address_conflict.
            sends(TWO, "bad_source"),
            pings(TWO, "bad_source"),
            pings(TWO._replace(user=STRANGER.user), "bad_source"),
            Send(TWO, S, Ping(), "bad_source"),
            # Its user is, from elsewhere at once; and it does not move there, however long it is silent.
            pings(TWO._replace(address=6)),
            Wait(REBIND_AFTER),
            pings(TWO, "bad_source"),
            Fleet(()),
            pings(TWO),
        ],
        without=but("hears of its fleet from a control plane; tests/integration/test_fleet.py", *PROCESSES),
    ),
    "the host is another relay of the fleet": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Fleet((HOST,)),
            Send(HOST, S, Ping(), "bad_source"),
            sends(ONE, "no_host"),
        ],
        without=but("hears of its fleet from a control plane; tests/integration/test_fleet.py", *PROCESSES),
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
    "right tokens from where nobody is bound, more than are passed up": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            *[Send(TWO, S, Ping(), "host_conflict", ERROR)] * 2,
            Send(TWO, S, Ping(), "overloaded"),
            # Each user for itself, and apart from wrong tokens.
            *[pings(STRANGER, "unknown_pair", INVALID)] * 2,
            pings(STRANGER, "unknown_pair"),
            Send(ONE, S, Ping(), "host_conflict", ERROR),
            # Who is bound is not bounded, and who takes somebody else's tokens is dropped for that.
            *[sends(ONE)] * 20,
            pings(ONE_MOVED, "address_conflict"),
            Wait(0.5),
            Send(TWO, S, Ping(), "host_conflict", ERROR),
            Send(TWO, S, Ping(), "overloaded"),
        ],
        fast_path={"known_per_user_per_second": 2, "unknown_per_source_per_second": 2},
        without=but("is about what a program passes up", *(one for one in (*VIRTUAL, *PROCESSES) if one != "kernel")),
    ),
}
