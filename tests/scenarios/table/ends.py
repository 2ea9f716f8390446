"""How users, sessions and the memory of them end."""

from tests.scenarios.cast import (
    GOES_ON,
    HOST,
    INVALID,
    ONE,
    ONE_MOVED,
    SESSION_TIMEOUT,
    STRANGER,
    VALID,
    hosts,
    joins,
    pings,
    sends,
)
from tests.scenarios.scenario import SILENT, TO_THE_MOMENT, TOO_LONG, Scenario
from tests.scenarios.steps import AtPlayer, Begin, C, End, Ping, S, Send, ToHost, ToPlayer, Wait
from tests.support.virtual_clock import TICK

ENDS: dict[str, Scenario] = {
    "a session has ended": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            End(),
            Send(ONE, C, ToHost(GOES_ON), "session_ended", SESSION_TIMEOUT),
            Send(HOST, S, ToPlayer(1, b"x"), "session_ended", SESSION_TIMEOUT),
            pings(STRANGER, "session_ended", SESSION_TIMEOUT),
            Begin(),
            pings(STRANGER, "unknown_pair", INVALID),
            sends(ONE, "no_host"),
            *hosts(HOST),
            sends(ONE, new=True),
        ]
    ),
    "an ended session is forgotten after a minute": Scenario(
        [
            *hosts(HOST),
            pings(ONE),
            End(),
            Wait(60.0 - TICK),
            pings(ONE, "session_ended", SESSION_TIMEOUT),
            Wait(TICK),
            pings(ONE, "unknown_pair", INVALID),
        ],
        without=TOO_LONG,
    ),
    "an ended session is forgotten after a minute, all by the program": Scenario(
        [
            *hosts(HOST),
            pings(ONE),
            End(),
            pings(ONE, "session_ended"),
            Wait(60.0 - TICK),
            pings(ONE, "session_ended"),
            Wait(TICK),
            pings(ONE, "unknown_pair"),
            Begin(),
            pings(STRANGER, "unknown_pair"),
        ],
        {"refusals_per_second": 0},
        SILENT,
        without=TOO_LONG,
    ),
    "a silent player is unbound": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Wait(4.0 - TICK),
            Send(HOST, S, ToPlayer(1, b"still there"), "forwarded", AtPlayer(ONE, b"still there")),
            Wait(TICK),
            Send(HOST, S, ToPlayer(1, b"gone"), "unknown_connection"),
            # It comes back from wherever it likes, under the id that it had.
            sends(ONE_MOVED),
        ],
        {"user_timeout": 4},
        without=TO_THE_MOMENT,
    ),
    "who is heard stays": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            *[step for _ in range(3) for step in (Wait(3.0), sends(ONE), Send(HOST, S, Ping(), "answered", VALID))],
            Send(HOST, S, ToPlayer(1, b"there"), "forwarded", AtPlayer(ONE, b"there")),
        ],
        {"user_timeout": 4},
        without=TOO_LONG,
    ),
    "a session that nobody is in ends": Scenario(
        [
            *hosts(HOST),
            Wait(2.0),
            Wait(8.0 - TICK),
            Send(HOST, S, Ping(), "answered", VALID),
            Wait(2.0),
            Wait(8.0),
            Send(HOST, S, Ping(), "session_ended", SESSION_TIMEOUT),
        ],
        {"user_timeout": 2, "session_idle_timeout": 8},
        without=TOO_LONG,
    ),
}
