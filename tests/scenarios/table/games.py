"""Games: who gets in, who hears whom, who moves, and what no engine accepts."""

from tests.scenarios.cast import (
    ERROR,
    GOES_ON,
    HOST,
    INVALID,
    ONE,
    ONE_MOVED,
    OPENS,
    OTHER_HOST,
    STRANGER,
    TWO,
    VALID,
    cross_family,
    hosts,
    joins,
    malformed,
    size,
)
from tests.scenarios.scenario import HOST_TIMEOUT, REBIND_AFTER, Scenario
from tests.scenarios.steps import AtHost, AtPlayer, C, Peer, Ping, Raw, Revoke, S, Send, Step, ToHost, ToPlayer, Wait

_STEPS: dict[str, list[Step]] = {
    "a game": [*hosts(HOST), *joins(ONE, HOST), *joins(TWO, HOST), *joins(Peer(3, 6), HOST)],
    "malformed from strangers": malformed(STRANGER),
    "malformed from the bound": [*hosts(HOST), *joins(ONE, HOST), *malformed(ONE), *malformed(HOST)],
    "ping with something behind it": [
        *hosts(HOST),
        Send(HOST, S, Raw(b"\x01and more"), "answered", VALID),
    ],
    "unknown tokens": [
        *hosts(HOST),
        Send(STRANGER, C, Ping(), "unknown_pair", INVALID),
        Send(STRANGER, S, ToPlayer(0, b"x"), "unknown_pair", INVALID),
        Send(STRANGER, C, ToHost(OPENS), "unknown_pair", INVALID),
    ],
    "no host": [
        Send(ONE, C, ToHost(OPENS), "no_host"),
        Send(ONE, C, Ping(), "answered", VALID),
        Send(ONE, C, ToHost(OPENS), "no_host"),
        *hosts(HOST),
        Send(ONE, C, ToHost(OPENS), "forwarded", AtHost(HOST, 1, OPENS, new_connection=True)),
    ],
    "unknown connection": [
        *hosts(HOST),
        *joins(ONE, HOST),
        Send(HOST, S, Raw(b"\x02\xff\xff\xff\x7fdata"), "unknown_connection"),
        Send(HOST, S, Raw(b"\x02\x00\x00\x00\x00data"), "unknown_connection"),
        Send(HOST, S, Raw(b"\x02\xff\xff\xff\xffdata"), "unknown_connection"),
    ],
    "a player moves within a game": [
        *hosts(HOST),
        *joins(ONE, HOST),
        Send(ONE_MOVED, C, ToHost(GOES_ON), "address_conflict"),
        Send(ONE_MOVED, C, Ping(), "address_conflict"),
        Wait(REBIND_AFTER),
        Send(ONE_MOVED, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
        Send(ONE_MOVED, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
        Send(HOST, S, ToPlayer(1, b"there"), "forwarded", AtPlayer(ONE_MOVED, b"there")),
        Send(Peer(1, 7), C, ToHost(GOES_ON), "address_conflict"),
    ],
    "a player restarts": [
        *hosts(HOST),
        *joins(ONE, HOST),
        Wait(REBIND_AFTER),
        Send(ONE_MOVED, C, Ping(), "answered", VALID),
        Send(HOST, S, ToPlayer(1, b"to the moved one"), "forwarded", AtPlayer(ONE_MOVED, b"to the moved one")),
        Send(ONE_MOVED, C, ToHost(OPENS), "forwarded", AtHost(HOST, 1, OPENS, new_connection=True)),
        Send(HOST, S, ToPlayer(1, b"old", connection=-2), "unknown_connection"),
        Send(HOST, S, ToPlayer(1, b"new"), "forwarded", AtPlayer(ONE_MOVED, b"new")),
        Send(ONE_MOVED, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
        Send(HOST, S, ToPlayer(1, b"old", connection=-2), "unknown_connection"),
    ],
    "a host moves": [
        *hosts(HOST),
        *joins(ONE, HOST),
        Send(OTHER_HOST, S, ToPlayer(1, b"x"), "address_conflict"),
        Wait(REBIND_AFTER),
        Send(OTHER_HOST, S, ToPlayer(1, b"x"), "forwarded", AtPlayer(ONE, b"x")),
        Send(OTHER_HOST, S, Ping(), "answered", VALID),
        Send(ONE, C, ToHost(GOES_ON), "forwarded", AtHost(OTHER_HOST, 1, GOES_ON)),
    ],
    "another host": [
        *hosts(HOST),
        *joins(ONE, HOST),
        Send(TWO, S, Ping(), "host_conflict", ERROR),
        Wait(HOST_TIMEOUT),
        Send(TWO, S, Ping(), "answered", VALID),
        Send(TWO, S, Ping(), "answered", VALID),
        Send(ONE, C, ToHost(GOES_ON), "forwarded", AtHost(TWO, 1, GOES_ON)),
        Send(TWO, S, ToPlayer(1, b"mine now"), "forwarded", AtPlayer(ONE, b"mine now")),
        # The declared host takes the role back whenever it comes.
        Send(HOST, S, ToPlayer(1, b"mine again"), "forwarded", AtPlayer(ONE, b"mine again")),
        Send(TWO, S, ToPlayer(1, b"not any more"), "host_conflict", ERROR),
    ],
    "a player is revoked": [
        *hosts(HOST),
        *joins(ONE, HOST),
        *joins(TWO, HOST),
        Revoke(1),
        Send(ONE, C, ToHost(GOES_ON), "unknown_pair", INVALID),
        Send(HOST, S, ToPlayer(1, b"gone"), "unknown_connection"),
        Send(TWO, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 2, GOES_ON)),
    ],
    "the host is revoked": [
        *hosts(HOST),
        *joins(ONE, HOST),
        Revoke(0),
        Send(HOST, S, ToPlayer(1, b"x"), "unknown_pair", INVALID),
        Send(ONE, C, ToHost(GOES_ON), "no_host"),
    ],
    "one user on both ports": [
        *hosts(HOST),
        *joins(Peer(0, 7), HOST),
        *joins(ONE, HOST),
    ],
    "the host at the client port": [
        *hosts(HOST),
        Send(HOST, C, ToHost(OPENS), "forwarded", AtHost(HOST, 0, OPENS, new_connection=True)),
        Send(HOST, C, ToHost(OPENS), "forwarded", AtHost(HOST, 0, OPENS)),
    ],
    "every size": [
        *hosts(HOST),
        *joins(ONE, HOST),
        *[
            step
            for length in (1, 2, 3, 7, 8, 9, 100, 1186, 1187)
            for step in (
                Send(ONE, C, ToHost(size(length)), "forwarded", AtHost(HOST, 1, size(length))),
                Send(HOST, S, ToPlayer(1, size(length)), "forwarded", AtPlayer(ONE, size(length))),
            )
        ],
        Send(ONE, C, ToHost(size(1191)), "forwarded", AtHost(HOST, 1, size(1191))),
        Send(ONE, C, ToHost(size(1192)), "too_long"),
        Send(HOST, S, ToPlayer(1, size(1188)), "too_long"),
    ],
    "IPv6": [*hosts(Peer(0, 0, 6)), *joins(Peer(1, 2, 6), Peer(0, 0, 6)), *malformed(Peer(1, 2, 6))],
    "IPv6 host, IPv4 player": cross_family(Peer(0, 0, 6), ONE),
    "IPv4 host, IPv6 player": cross_family(HOST, Peer(1, 2, 6)),
    "a player changes family": [
        *hosts(HOST),
        *joins(ONE, HOST),
        Wait(REBIND_AFTER),
        Send(Peer(1, 2, 6), C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
        Send(Peer(1, 2, 6), C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
        Send(HOST, S, ToPlayer(1, b"x"), "forwarded", AtPlayer(Peer(1, 2, 6), b"x")),
    ],
}

_WITH_LIMITS = {
    "an id is kept for good": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Wait(REBIND_AFTER),
            Send(ONE_MOVED, C, ToHost(OPENS), "forwarded", AtHost(HOST, 1, OPENS)),
            Send(HOST, S, ToPlayer(1, b"to the moved one"), "forwarded", AtPlayer(ONE_MOVED, b"to the moved one")),
            Send(ONE_MOVED, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
        ],
        {"connection_id_policy": "stable"},
    ),
    "each address gets an id of its own": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Wait(REBIND_AFTER),
            Send(ONE_MOVED, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON, new_connection=True)),
            Send(HOST, S, ToPlayer(1, b"old", connection=-2), "unknown_connection"),
            Send(HOST, S, ToPlayer(1, b"new"), "forwarded", AtPlayer(ONE_MOVED, b"new")),
            Send(ONE_MOVED, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
        ],
        {"connection_id_policy": "per_address"},
    ),
    "a player moves at once": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Send(ONE_MOVED, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
            Send(ONE_MOVED, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
            Send(HOST, S, ToPlayer(1, b"there"), "forwarded", AtPlayer(ONE_MOVED, b"there")),
            Send(ONE, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
        ],
        {"rebind_after": 0},
    ),
    "another host at once": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Send(TWO, S, Ping(), "answered", VALID),
            Send(ONE, C, ToHost(GOES_ON), "forwarded", AtHost(TWO, 1, GOES_ON)),
            Send(TWO, S, ToPlayer(1, b"mine now"), "forwarded", AtPlayer(ONE, b"mine now")),
            Send(HOST, S, Ping(), "answered", VALID),
            Send(ONE, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON)),
        ],
        {"host_timeout": 0},
    ),
}

GAMES = {name: Scenario(steps) for name, steps in _STEPS.items()} | _WITH_LIMITS
