"""Users that are heard from several addresses: who is a player that moved, and who has somebody else's token."""

from tests.scenarios.cast import (
    ERROR,
    GOES_ON,
    HOST,
    ONE,
    ONE_MOVED,
    OPENS,
    OTHER_HOST,
    TWO,
    VALID,
    hosts,
    joins,
    pings,
    sends,
)
from tests.scenarios.scenario import REBIND_AFTER, TO_THE_MOMENT, TOO_LONG, Scenario
from tests.scenarios.steps import AtHost, AtPlayer, C, Peer, Ping, S, Send, ToHost, ToPlayer, Wait
from tests.support.virtual_clock import TICK

PROBATION, REFUSED = 10.0, 60.0
ONE_ELSEWHERE = Peer(1, 7)
TWO_AT_ONES, THREE_AT_ONES = Peer(2, ONE.address), Peer(3, ONE.address)
ONE_AT_HOSTS = Peer(1, HOST.address)

MOVES: dict[str, Scenario] = {
    "a stolen token": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Wait(REBIND_AFTER),
            # The victim only PINGs for a while, and whoever sends more is bound in a pause.
            sends(ONE_MOVED),
            pings(ONE),
            sends(ONE),
            Send(HOST, S, ToPlayer(1, b"still here"), "forwarded", AtPlayer(ONE, b"still here")),
            Wait(REBIND_AFTER),
            sends(ONE_MOVED, "address_conflict"),
            pings(ONE_MOVED, "address_conflict"),
            # Nor from anywhere else.
            pings(ONE_ELSEWHERE, "address_conflict"),
            pings(ONE),
        ]
    ),
    "a stolen token that begins a new connection": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Wait(REBIND_AFTER),
            pings(ONE_MOVED),
            Send(ONE_MOVED, C, ToHost(OPENS), "forwarded", AtHost(HOST, 1, OPENS, new_connection=True)),
            # The host knows the player as before, and what it tells the other one goes nowhere.
            Send(ONE, C, ToHost(GOES_ON), "forwarded", AtHost(HOST, 1, GOES_ON, connection=-2)),
            Send(HOST, S, ToPlayer(1, b"the other"), "unknown_connection"),
            Send(HOST, S, ToPlayer(1, b"you", connection=-2), "forwarded", AtPlayer(ONE, b"you")),
        ]
    ),
    "a host's stolen token": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Wait(REBIND_AFTER),
            Send(OTHER_HOST, S, Ping(), "answered", VALID),
            sends(ONE, host=OTHER_HOST),
            Send(HOST, S, ToPlayer(1, b"mine"), "forwarded", AtPlayer(ONE, b"mine")),
            sends(ONE),
            Wait(REBIND_AFTER),
            Send(OTHER_HOST, S, Ping(), "address_conflict"),
        ]
    ),
    "who moves twice is still on probation": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Wait(REBIND_AFTER),
            pings(ONE_MOVED),
            Wait(REBIND_AFTER),
            pings(ONE_ELSEWHERE),
            # Whoever is heard where it was before is the player: here, and where it was first of all.
            pings(ONE_MOVED),
            sends(ONE_MOVED),
            pings(ONE),
            Wait(REBIND_AFTER),
            pings(ONE_ELSEWHERE, "address_conflict"),
            pings(ONE_MOVED, "address_conflict"),
            sends(ONE),
        ]
    ),
    "probation and refusal end": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Wait(REBIND_AFTER),
            pings(ONE_MOVED),
            Wait(PROBATION - TICK),
            pings(ONE),
            *[step for _ in range(14) for step in (Wait(REFUSED / 15), pings(ONE))],
            Wait(REFUSED / 15 - TICK),
            pings(ONE_MOVED, "address_conflict"),
            Wait(TICK),
            pings(ONE_MOVED),
            Wait(PROBATION),
            pings(ONE_MOVED),
            pings(ONE, "address_conflict"),
        ],
        without=TOO_LONG,
    ),
    "a datagram that was under way for long": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Wait(REBIND_AFTER),
            sends(ONE_MOVED),
            # It comes last of all from there, and takes the binding back with it.
            pings(ONE),
            Wait(5.0 - TICK),
            sends(ONE_MOVED, "address_conflict"),
            Wait(TICK),
            sends(ONE_MOVED),
        ],
        without=TOO_LONG,
    ),
    "a named address wins at once": Scenario(
        [
            *hosts(HOST),
            *joins(ONE_MOVED, HOST),
            sends(ONE),
            pings(ONE_MOVED, "address_conflict"),
            Send(HOST, S, ToPlayer(1, b"there"), "forwarded", AtPlayer(ONE, b"there")),
            Wait(REBIND_AFTER),
            # Elsewhere it may still move to, and it is back at once.
            pings(ONE_MOVED),
            pings(ONE),
        ],
        named={1: ONE},
    ),
    "a mapping that went to another player": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Wait(REBIND_AFTER),
            Send(TWO_AT_ONES, C, ToHost(OPENS), "forwarded", AtHost(HOST, 2, OPENS, new_connection=True)),
            Wait(REBIND_AFTER),
            # It may be there still.
            Send(HOST, S, ToPlayer(1, b"where are you"), "forwarded", AtPlayer(ONE, b"where are you")),
            pings(TWO_AT_ONES),
            Wait(0.75),
            Send(HOST, S, ToPlayer(1, b"not to two"), "unknown_connection"),
            Send(HOST, S, ToPlayer(2, b"to two"), "forwarded", AtPlayer(TWO_AT_ONES, b"to two")),
            sends(TWO_AT_ONES),
            # Wherever it is now, it goes on as before.
            sends(ONE_MOVED),
            Send(HOST, S, ToPlayer(1, b"here"), "forwarded", AtPlayer(ONE_MOVED, b"here")),
        ]
    ),
    "a mapping that a player moved into": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            *joins(TWO, HOST),
            Wait(REBIND_AFTER),
            pings(TWO_AT_ONES),
            Wait(REBIND_AFTER),
            pings(TWO_AT_ONES),
            Wait(REBIND_AFTER),
            Send(HOST, S, ToPlayer(1, b"not to two"), "unknown_connection"),
            sends(TWO_AT_ONES),
        ]
    ),
    "players who share a socket": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            *joins(TWO_AT_ONES, HOST),
            *[
                step
                for _ in range(5)
                for step in (Wait(REBIND_AFTER), pings(ONE), sends(TWO_AT_ONES), pings(TWO_AT_ONES))
            ],
            Send(HOST, S, ToPlayer(1, b"one"), "forwarded", AtPlayer(ONE, b"one")),
            Send(HOST, S, ToPlayer(2, b"two"), "forwarded", AtPlayer(TWO_AT_ONES, b"two")),
            sends(ONE),
        ]
    ),
    "to the moment of a second": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Wait(TICK),
            pings(TWO_AT_ONES),
            Wait(1.0 - TICK),
            sends(ONE),
            # Heard within that second, it is looked at no more before another one comes.
            Wait(REBIND_AFTER),
            pings(TWO_AT_ONES),
            Wait(4.0),
            sends(ONE),
            Wait(TICK),
            pings(THREE_AT_ONES),
            pings(TWO_AT_ONES),
            Wait(TICK),
            pings(TWO_AT_ONES),
            Wait(1.0 - 2 * TICK),
            Send(HOST, S, ToPlayer(1, b"still"), "forwarded", AtPlayer(ONE, b"still")),
            Wait(TICK),
            Send(HOST, S, ToPlayer(1, b"gone"), "unknown_connection"),
            pings(TWO_AT_ONES),
            pings(THREE_AT_ONES),
        ],
        without=TO_THE_MOMENT,
    ),
    "who shares a host's address": Scenario(
        [
            *hosts(HOST),
            *joins(ONE_AT_HOSTS, HOST),
            *joins(ONE_AT_HOSTS, HOST)[2:],
            Wait(4.0),
            # A host and a player at one address are heard on ports of their own.
            Send(HOST, S, ToPlayer(1, b"still"), "forwarded", AtPlayer(ONE_AT_HOSTS, b"still")),
            Send(ONE_AT_HOSTS, S, Ping(), "host_conflict", ERROR),
            Wait(0.75),
            sends(ONE_AT_HOSTS),
        ],
        {"host_timeout": 10.0},
        without=TOO_LONG,
    ),
    "to the moment of the silence": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Wait(REBIND_AFTER - TICK),
            pings(ONE_MOVED, "address_conflict"),
            Wait(TICK),
            pings(ONE_MOVED),
        ],
        without=TO_THE_MOMENT,
    ),
}
