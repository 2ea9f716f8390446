"""The state file: mapped into memory by one process, and by the next one.

header        magic, layout, places in use, where the sockets are bound, its own checksum
heartbeat     which boot it was, and when somebody last wrote
counters      the engine's
decisions     what the forwarding thread decided and the engine has not added to its own counters yet
tombstones    sessions that ended, and when they are forgotten
records       one for each binding, one for each user that was ever bound (its account), and one for each session
              with users that are no longer in it
"""

import enum

from relayd.core.declaration.common import PORT_COUNTERS, PORTS, STATES, TOTAL, VERDICTS
from relayd.core.declaration.terms import (
    BOOL,
    F64,
    U8,
    U16,
    U32,
    U64,
    Area,
    Field,
    Layout,
    Numbers,
    Struct,
    some_bytes,
)
from relayd.core.declaration.thread import COUNTS


class Kind(enum.IntEnum):
    """What a record is of."""

    BINDING = 1
    ACCOUNT = 2
    """Counts of a user over all of its bindings but those that are still in their records."""
    REVOKED = 3
    """Counts of all users of a session that are no longer in it."""
    FORMER = 4
    """One of those two, of a session that ended: kept until its usage is recorded."""


HEADER = Struct(
    "state_header",
    (
        Field("magic", some_bytes(8)),
        Field("layout", U64, "digest of the relayd that wrote it; at this offset in every layout"),
        Field("bind_digest", U64, "of the addresses that sockets are numbered by"),
        Field("slots", U32, "records there is room for"),
        Field("checksum", U32, "of what stands before it"),
    ),
)

HEARTBEAT = Struct(
    "heartbeat",
    (Field("boot_id", some_bytes(16), "zero where nobody says"), Field("beat_seconds", F64, "CLOCK_MONOTONIC")),
)

TOMBSTONE = Struct("tombstone", (Field("session", U32), Field("used", U32), Field("forgotten_at_seconds", F64)))

IDENTITY = Struct(
    "identity",
    (
        Field("kind", U8),
        Field("port", U8, "of a binding"),
        Field("undecided", BOOL, "of a binding: whether its first DATA has still to tell if the connection is new"),
        Field("family", U8),
        Field("endpoint", U16, "of a binding: number of its socket"),
        Field("peer_port", U16),
        Field("user", U32),
        Field("session", U32),
        Field("connection_id", U32, "of a player, also in its account; else 0"),
        Field("scope", U32),
        Field("ip", some_bytes(16), "of an IPv4 address the first four; of anything but a binding: its span"),
        Field("local", some_bytes(16), "of a binding: address of this host, as `ip`; all zero where it is not known"),
        Field("game", some_bytes(4), "stands for the session's id"),
    ),
    "What a record is of, and whose.",
)

RECORD_LINE = Struct(
    "record_line",
    (Field("checksum", U32, "of what follows in this line; written last"), Field("identity", IDENTITY)),
    "What a record says of itself.",
    64,
)

RECORD = Struct("record", (Field("line", RECORD_LINE), Field("counts", COUNTS)))

_PORTS = PORTS.amount.value

HEADER_AREA = Area("header", 0, HEADER)
HEARTBEAT_AREA = Area("heartbeat", 128, HEARTBEAT)
COUNTERS_AREA = Area("counters", 4096, PORT_COUNTERS, _PORTS)
DECISIONS_AREA = Area("decisions", 8192, TOTAL, _PORTS * VERDICTS.amount.value)
TOMBSTONES_AREA = Area("tombstones", 12288, TOMBSTONE, 4096)
RECORDS_AREA = Area("records", TOMBSTONES_AREA.end, RECORD, 1 << 20)

AREAS = (HEADER_AREA, HEARTBEAT_AREA, COUNTERS_AREA, DECISIONS_AREA, TOMBSTONES_AREA, RECORDS_AREA)

LAYOUT = Layout("state file", (PORTS, STATES, VERDICTS, Numbers("record_kind", Kind), *AREAS))
