"""How much a player, a host and a session may send."""

from tests.scenarios.cast import HOST, ONE, ONE_MOVED, THREE, TWO, VALID, hosts, joins, pings, sends, size
from tests.scenarios.scenario import PROCESSES, REBIND_AFTER, TO_THE_MOMENT, TOO_LONG, Scenario, but
from tests.scenarios.steps import AtHost, AtPlayer, C, Ping, S, Send, ToHost, ToPlayer, Wait
from tests.support.virtual_clock import TICK

RATES: dict[str, Scenario] = {
    "a player above its rate": Scenario(
        [
            *hosts(HOST),
            sends(ONE, new=True),
            sends(ONE),
            sends(ONE, "rate_limited"),
            pings(ONE, "rate_limited"),
            Send(HOST, S, ToPlayer(1, b"others may"), "forwarded", AtPlayer(ONE, b"others may")),
            Wait(0.5),
            pings(ONE),
            pings(ONE, "rate_limited"),
            Wait(1.0),
            sends(ONE),
            sends(ONE),
            sends(ONE, "rate_limited"),
        ],
        {"user_datagrams_per_second": 2},
    ),
    "a player above its rate, to the moment": Scenario(
        [
            *hosts(HOST),
            *[sends(ONE, new=number == 0) for number in range(4)],
            sends(ONE, "rate_limited"),
            Wait(0.25 - TICK),
            sends(ONE, "rate_limited"),
            Wait(TICK),
            sends(ONE),
            sends(ONE, "rate_limited"),
            Wait(10.0),
            *[sends(ONE) for _ in range(4)],
            sends(ONE, "rate_limited"),
        ],
        {"user_datagrams_per_second": 4},
        without=TO_THE_MOMENT,
    ),
    "a peer that is not heard is not flooded": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Wait(5.0 - TICK),
            *[Send(HOST, S, ToPlayer(1, b"level"), "forwarded", AtPlayer(ONE, b"level")) for _ in range(120)],
            Wait(TICK),
            *[Send(HOST, S, ToPlayer(1, b"level"), "forwarded", AtPlayer(ONE, b"level")) for _ in range(100)],
            Send(HOST, S, ToPlayer(1, b"level"), "rate_limited"),
            Wait(0.5),
            *[Send(HOST, S, ToPlayer(1, b"level"), "forwarded", AtPlayer(ONE, b"level")) for _ in range(50)],
            Send(HOST, S, ToPlayer(1, b"level"), "rate_limited"),
            Send(HOST, S, Ping(), "answered", VALID),
            # What is heard of it ends that at once.
            pings(ONE),
            Send(HOST, S, ToPlayer(1, b"level"), "forwarded", AtPlayer(ONE, b"level")),
            # A host is a peer as any other.
            Wait(5.0),
            *[sends(ONE) for _ in range(100)],
            sends(ONE, "rate_limited"),
        ],
        without=TOO_LONG,
    ),
    "a player above its rate in bytes": Scenario(
        [
            *hosts(HOST),
            Send(ONE, C, ToHost(size(1000)), "forwarded", AtHost(HOST, 1, size(1000), new_connection=True)),
            Send(ONE, C, ToHost(size(1000)), "rate_limited"),
            pings(ONE),
            Send(ONE, C, ToHost(size(1000)), "rate_limited"),
            Wait(1.0),
            Send(ONE, C, ToHost(size(1000)), "forwarded", AtHost(HOST, 1, size(1000))),
            Send(ONE, C, ToHost(size(1000)), "rate_limited"),
        ],
        {"user_bytes_per_second": 1280},
    ),
    "a rate in bytes, to the moment": Scenario(
        [
            *hosts(HOST),
            # 640 bytes are half a second's worth.
            *[
                Send(ONE, C, ToHost(size(631)), "forwarded", AtHost(HOST, 1, size(631), new_connection=number == 0))
                for number in range(2)
            ],
            pings(ONE, "rate_limited"),
            Wait(0.5 - TICK),
            Send(ONE, C, ToHost(size(631)), "rate_limited"),
            Wait(TICK),
            Send(ONE, C, ToHost(size(631)), "forwarded", AtHost(HOST, 1, size(631))),
            pings(ONE, "rate_limited"),
        ],
        {"user_bytes_per_second": 1280},
        without=TO_THE_MOMENT,
    ),
    "a host above its rate": Scenario(
        [
            *hosts(HOST),
            Send(HOST, S, Ping(), "rate_limited"),
            Send(HOST, S, ToPlayer(1, b"x"), "rate_limited"),
            sends(ONE, new=True),
            Wait(1.0),
            Send(HOST, S, ToPlayer(1, b"x"), "forwarded", AtPlayer(ONE, b"x")),
            Send(HOST, S, ToPlayer(1, b"x"), "forwarded", AtPlayer(ONE, b"x")),
            Send(HOST, S, ToPlayer(1, b"x"), "rate_limited"),
        ],
        {"host_datagrams_per_second": 2},
    ),
    "a host above its rate in bytes": Scenario(
        [
            *hosts(HOST),
            sends(ONE, new=True),
            Send(HOST, S, ToPlayer(1, size(1000)), "forwarded", AtPlayer(ONE, size(1000))),
            Send(HOST, S, ToPlayer(1, size(1000)), "rate_limited"),
            sends(ONE),
            Wait(1.0),
            Send(HOST, S, ToPlayer(1, size(1000)), "forwarded", AtPlayer(ONE, size(1000))),
            Send(HOST, S, ToPlayer(1, size(1000)), "rate_limited"),
        ],
        {"host_bytes_per_second": 1280},
    ),
    "a rate goes with its user to another address": Scenario(
        [
            *hosts(HOST),
            *[sends(ONE, new=number == 0) for number in range(4)],
            Wait(0.5),
            sends(ONE_MOVED),
            sends(ONE_MOVED),
            sends(ONE_MOVED, "rate_limited"),
        ],
        {"user_datagrams_per_second": 4},
        without=TO_THE_MOMENT,
    ),
    "who is above its rate is heard all the same": Scenario(
        [
            *hosts(HOST),
            *[sends(ONE, new=number == 0) for number in range(2)],
            Wait(REBIND_AFTER - TICK),
            sends(ONE, "rate_limited"),
            Wait(TICK),
            sends(ONE_MOVED, "address_conflict"),
        ],
        {"user_datagrams_per_second": 2},
        without=TO_THE_MOMENT,
    ),
    "a session above its rate": Scenario(
        [
            *hosts(HOST),
            sends(ONE, new=True),
            sends(ONE),
            sends(ONE, "rate_limited"),
            pings(TWO, "rate_limited"),
            Send(HOST, S, ToPlayer(1, b"x"), "rate_limited"),
            Wait(1.0),
            pings(TWO),
            sends(ONE),
            Send(HOST, S, ToPlayer(1, b"x"), "forwarded", AtPlayer(ONE, b"x")),
            pings(TWO),
            pings(TWO, "rate_limited"),
        ],
        {"session_datagrams_per_second": 4},
        without=but("four a second refill faster than some machines send", *PROCESSES),
    ),
    "a whole session at one datagram a second": Scenario(
        [
            Send(HOST, S, Ping(), "answered", VALID),
            Send(HOST, S, Ping(), "rate_limited"),
            sends(ONE, "rate_limited"),
            Wait(1.0),
            sends(ONE, new=True),
            Send(HOST, S, Ping(), "rate_limited"),
        ],
        {"session_datagrams_per_second": 1},
    ),
    "a session above its rate in bytes": Scenario(
        [
            *hosts(HOST),
            Send(ONE, C, ToHost(size(1000)), "forwarded", AtHost(HOST, 1, size(1000), new_connection=True)),
            Send(TWO, C, ToHost(size(1000)), "rate_limited"),
            pings(TWO),
        ],
        {"session_bytes_per_second": 1280},
        without=but("is played above with datagrams", *PROCESSES),
    ),
    "who is above its own rate costs its session nothing": Scenario(
        [
            Send(HOST, S, Ping(), "answered", VALID),
            sends(ONE, new=True),
            sends(ONE),
            *[sends(ONE, "rate_limited")] * 5,
            pings(TWO),
            pings(THREE, "rate_limited"),
            Wait(0.25),
            pings(TWO),
        ],
        {"session_datagrams_per_second": 4, "user_datagrams_per_second": 2},
        without=TO_THE_MOMENT,
    ),
}
