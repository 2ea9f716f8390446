"""To the moment, and without a relayd."""

from tests.scenarios.cast import ERROR, HOST, ONE, ONE_MOVED, STRANGER, TWO, VALID, hosts, joins, pings, sends
from tests.scenarios.scenario import HOST_TIMEOUT, PROCESSES, REBIND_AFTER, TO_THE_MOMENT, Scenario, but
from tests.scenarios.steps import AtPlayer, Away, C, Ping, Raw, S, Send, ToPlayer, Wait
from tests.support.virtual_clock import TICK

MOMENTS: dict[str, Scenario] = {
    "a move, to the moment": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Wait(REBIND_AFTER - TICK),
            sends(ONE_MOVED, "address_conflict"),
            Wait(TICK),
            sends(ONE_MOVED),
        ],
        without=TO_THE_MOMENT,
    ),
    "another host, to the moment": Scenario(
        [
            *hosts(HOST),
            Wait(HOST_TIMEOUT - TICK),
            Send(TWO, S, Ping(), "host_conflict", ERROR),
            Wait(TICK),
            Send(TWO, S, Ping(), "answered", VALID),
        ],
        without=TO_THE_MOMENT,
    ),
    "a processor whose clock is behind": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Wait(-TICK),
            sends(ONE_MOVED, "address_conflict"),
            Send(TWO, S, Ping(), "host_conflict", ERROR),
            sends(ONE),
        ],
        without=TO_THE_MOMENT,
    ),
    "nobody is at home": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            Away(on=True),
            # The game goes on, and nobody is told by an ICMP error that there is no relayd.
            sends(ONE),
            Send(HOST, S, ToPlayer(1, b"still"), "forwarded", AtPlayer(ONE, b"still")),
            pings(TWO, "relay_away"),
            pings(STRANGER, "relay_away"),
            Send(HOST, S, Raw(b"\x02\xff\xff\xff\x7fdata"), "relay_away"),
            Send(ONE, C, Raw(b"\x03"), "unknown_type"),
            sends(ONE_MOVED, "address_conflict"),
            # Another processor heard the player a moment ago, by its own clock.
            Wait(-TICK),
            sends(ONE_MOVED, "address_conflict"),
            Wait(TICK),
            Away(on=False),
            pings(TWO),
        ],
        without={
            **but("without relayd nothing is left that decides", "naive", "engine", "uvloop", "thread"),
            **but("tests/integration/test_fast_path_crash.py kills whole relays", *PROCESSES),
        },
    ),
}
