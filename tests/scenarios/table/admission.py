"""Who is not let in, and how often that is told."""

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
    THREE,
    TWO,
    VALID,
    hosts,
    joins,
    pings,
    sends,
)
from tests.scenarios.scenario import HOST_TIMEOUT, REBIND_AFTER, TO_THE_MOMENT, Scenario
from tests.scenarios.steps import AtHost, Begin, C, Drain, Ping, Revoke, S, Send, ToHost, ToPlayer, Wait
from tests.support.virtual_clock import TICK

ADMISSION: dict[str, Scenario] = {
    "only from the named address": Scenario(
        [
            *hosts(HOST),
            *joins(ONE, HOST),
            pings(THREE, "address_refused", ERROR),
            pings(TWO._replace(address=7), "address_refused", ERROR),
            sends(ONE_MOVED, "address_refused")._replace(out=ERROR),
            Wait(REBIND_AFTER),
            pings(ONE_MOVED, "address_refused", ERROR),
            Send(OTHER_HOST, S, Ping(), "address_refused", ERROR),
            pings(TWO),
            sends(ONE),
        ],
        {"pin_ip": True},
        named={0: HOST, 1: ONE, 2: TWO},
    ),
    "a player on the server port before the declared host": Scenario(
        [
            Send(ONE, S, Ping(), "answered", VALID),
            Send(ONE, S, Ping(), "answered", VALID),
            Send(TWO, S, Ping(), "host_conflict", ERROR),
            sends(TWO, host=ONE, new=True),
            *hosts(HOST),
            sends(TWO),
            Send(ONE, S, Ping(), "host_conflict", ERROR),
            *joins(ONE, HOST),
            Wait(HOST_TIMEOUT),
            # While it is away anybody may help out.
            Send(ONE, S, Ping(), "answered", VALID),
            sends(TWO, host=ONE),
            *hosts(HOST),
            sends(TWO),
        ]
    ),
    "nobody but the declared host": Scenario(
        [
            Send(ONE, S, Ping(), "host_conflict", ERROR),
            sends(TWO, "no_host"),
            *hosts(HOST),
            sends(TWO, new=False)._replace(out=AtHost(HOST, 2, GOES_ON, new_connection=True)),
            Wait(HOST_TIMEOUT),
            Send(ONE, S, Ping(), "host_conflict", ERROR),
            Send(ONE, S, ToPlayer(2, b"x"), "host_conflict", ERROR),
            # Then the next one of its users is the declared host.
            Revoke(0),
            Send(HOST, S, Ping(), "unknown_pair", INVALID),
            Send(TWO, S, Ping(), "host_conflict", ERROR),
            Send(ONE, S, Ping(), "answered", VALID),
            sends(TWO, host=ONE),
            # And it is not any more when the first one is back.
            Begin(),
            Send(ONE, S, Ping(), "host_conflict", ERROR),
            sends(TWO, "no_host"),
            *hosts(HOST),
            sends(TWO),
        ],
        {"host_policy": "strict"},
    ),
    "whoever hosts first": Scenario(
        [
            Send(ONE, S, Ping(), "answered", VALID),
            sends(TWO, host=ONE, new=True),
            Send(HOST, S, Ping(), "host_conflict", ERROR),
            Wait(HOST_TIMEOUT),
            *hosts(HOST),
            sends(TWO),
            Send(ONE, S, Ping(), "host_conflict", ERROR),
        ],
        {"host_policy": "any"},
    ),
    "a draining relay": Scenario(
        [
            Drain(on=True),
            Send(HOST, S, Ping(), "draining", ERROR),
            Send(ONE, C, ToHost(OPENS), "draining", ERROR),
            Drain(on=False),
            *hosts(HOST),
            Drain(on=True),
            # A game that is on goes on, and whoever belongs to it gets in.
            *joins(ONE, HOST),
            pings(TWO),
            Revoke(2),
            pings(TWO, "unknown_pair", INVALID),
            Drain(on=False),
        ]
    ),
    "a full relay": Scenario(
        [
            *hosts(HOST),
            sends(ONE, new=True),
            pings(TWO, "relay_full", ERROR),
            sends(TWO, "relay_full")._replace(out=ERROR),
            # Who is in may move, and a host be replaced.
            Wait(HOST_TIMEOUT),
            sends(ONE_MOVED),
            Send(TWO, S, Ping(), "answered", VALID),
            Send(ONE, S, Ping(), "host_conflict", ERROR),
            Revoke(1),
            pings(THREE),
        ],
        {"max_bound_users": 2},
    ),
}

REFUSALS: dict[str, Scenario] = {
    "refusals told to one source": Scenario(
        [
            *hosts(HOST),
            pings(STRANGER, "unknown_pair", INVALID),
            pings(STRANGER, "unknown_pair", INVALID),
            pings(STRANGER, "unknown_pair"),
            pings(STRANGER._replace(address=7), "unknown_pair", INVALID),
            Wait(0.5),
            pings(STRANGER, "unknown_pair", INVALID),
            pings(STRANGER, "unknown_pair"),
        ],
        {"refusals_per_source_per_second": 2},
    ),
    "refusals told in all": Scenario(
        [
            *hosts(HOST),
            *[pings(STRANGER._replace(address=address), "unknown_pair", INVALID) for address in (5, 6)],
            pings(STRANGER._replace(address=7), "unknown_pair"),
            Send(STRANGER, S, Ping(), "unknown_pair"),
            Wait(0.5 - TICK),
            pings(STRANGER, "unknown_pair"),
            Wait(TICK),
            pings(STRANGER, "unknown_pair", INVALID),
            pings(STRANGER, "unknown_pair"),
        ],
        {"refusals_per_second": 2},
        without=TO_THE_MOMENT,
    ),
}
