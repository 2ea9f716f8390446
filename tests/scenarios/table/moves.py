"""Users that are heard from several addresses: who is a player that moved, and who has somebody else's token."""

from tests.scenarios.cast import GOES_ON, HOST, ONE, ONE_MOVED, OPENS, OTHER_HOST, VALID, hosts, joins, pings, sends
from tests.scenarios.scenario import REBIND_AFTER, TO_THE_MOMENT, TOO_LONG, Scenario
from tests.scenarios.steps import AtHost, AtPlayer, C, Peer, Ping, S, Send, ToHost, ToPlayer, Wait
from tests.support.virtual_clock import TICK

PROBATION, REFUSED = 10.0, 60.0
ONE_ELSEWHERE = Peer(1, 7)

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
