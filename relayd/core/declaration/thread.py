"""What the forwarding thread, in C, shares with the Python that owns it."""

from relayd.core import meter, pings, wire
from relayd.core.declaration.common import DUES, PINGS, PORTS, RATE, STATES, TOTAL, TRAFFIC, VERDICTS
from relayd.core.declaration.terms import F64, U64, Constant, Field, Layout, Row, Struct
from relayd.core.verdict import Verdict

COUNTED_DROPS = (Verdict.SEND_QUEUE_FULL, Verdict.SEND_FAILED, Verdict.RATE_LIMITED)
"""What the thread counts of each binding besides what it forwarded, in this order."""

COUNTS = Struct(
    "counts",
    (
        Field("last_seen_seconds", F64, "CLOCK_MONOTONIC"),
        *TRAFFIC,
        *(Field(verdict.label, U64) for verdict in COUNTED_DROPS),
    ),
    "What is counted of a binding: a line of the cache, in the owner's memory, which may outlive the process. Counts"
    " begin where the owner left them.",
    64,
)

WIRE = tuple(Constant(name, value) for name, value in vars(wire).items() if name.isupper() and isinstance(value, int))
"""Every number of relayd/core/wire.py."""

TIMES = (
    Constant("NS_PER_SECOND", meter.NS_PER_SECOND),
    Constant(
        "SILENT_NS",
        int(meter.SILENT_SECONDS * meter.NS_PER_SECOND),
        "Who has not been heard for so long is sent no more than TO_SILENT_NS allows.",
    ),
    Constant("TO_SILENT_NS", meter.NS_PER_SECOND // meter.TO_SILENT.datagrams, "Between two datagrams to such a peer."),
    Constant("PING_PERIOD_NS", pings.PERIOD_NS, "Between two PINGs of a client."),
    Constant("LONGEST_PING_INTERVAL_NS", pings.LONGEST_INTERVAL_NS, "A longer silence is no loss, but an absence."),
)

DELAY_BOUNDS_NS = Row(
    "DELAY_BOUNDS_NS",
    (
        *(250, 500, 1_000, 2_500, 5_000),
        *(us * 1000 for us in (10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000)),
    ),
    "How long datagrams were in the relay, or the kernel program ran, which the first ones are for: upper bounds of"
    " the buckets. One more bucket has no bound.",
)

LAYOUT = Layout(
    "forwarding thread", (*WIRE, *TIMES, PORTS, STATES, VERDICTS, RATE, DUES, PINGS, TOTAL, COUNTS, DELAY_BOUNDS_NS)
)

VERSION = Constant("THREAD_LAYOUT", LAYOUT.digest, "Of all that the thread shares with its owner.")
