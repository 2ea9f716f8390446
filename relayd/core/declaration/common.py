"""What several layouts have in common."""

from relayd.core.declaration.terms import U64, Field, Numbers, Struct
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, State

PORTS = Numbers("port", Port, count="PORTS")
VERDICTS = Numbers("verdict", Verdict, count="VERDICTS")
STATES = Numbers("peer_state", State, prefix="STATE_", count="STATES")

TRAFFIC = (
    Field("to_host_datagrams", U64),
    Field("to_host_bytes", U64),
    Field("to_player_datagrams", U64),
    Field("to_player_bytes", U64),
)
"""What was forwarded: `Traffic` of relayd/core/counters.py."""

RATE = Struct(
    "rate",
    (
        Field("datagram_ns", U64, "between two that come evenly; 0: no bound"),
        Field("bytes_per_second", U64, "0: no bound"),
    ),
    "What may be sent: relayd/core/meter.py.",
)

DUES = Struct(
    "dues",
    (Field("datagrams_ns", U64, "CLOCK_MONOTONIC"), Field("bytes_ns", U64)),
    "When what was let through would all have been due, had it come evenly.",
)

PINGS = Struct(
    "pings",
    (
        Field("last_ns", U64, "CLOCK_MONOTONIC; 0 where the interval to the next one says nothing"),
        Field("heard", U64),
        Field("missed", U64),
        Field("jitter_sixteenths_ns", U64),
    ),
    "How evenly a peer's PINGs come: relayd/core/pings.py.",
)

TOTAL = Struct("total", (Field("datagrams", U64), Field("bytes", U64)), "Of one verdict at one port.")

PORT_COUNTERS = Struct(
    "port_counters",
    (
        Field("datagrams", U64, count=VERDICTS.amount),
        Field("bytes", U64, count=VERDICTS.amount),
        Field("refusals_told", U64, count=STATES.amount),
    ),
    "Of one port: `Counters` of relayd/core/counters.py.",
)
