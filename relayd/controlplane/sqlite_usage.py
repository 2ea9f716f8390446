"""Usage in SQLite. What counts is the difference to the most that a span reported before: see relayd/core/usage.py."""

import sqlite3
from collections.abc import Sequence

from relayd.controlplane.usage import UsageQuery, UsageSum
from relayd.core.usage import Counts, UsageRecord

FORGOTTEN_AT_ONCE = 20_000
"""Records, so that nobody waits for long."""

_COUNTS = Counts._fields
# sum() fails above 63 bits, for good once a relay with a defect has reported such counts. total() is exact up to 2**53
# (sqlite.org/lang_aggfunc.html).
_SUMS = ", ".join(f"total(u.{name})" for name in _COUNTS)


def add(connection: sqlite3.Connection, node_id: str, stream: str, records: Sequence[UsageRecord]) -> int:
    """Takes records, each once. Returns how many are new."""
    return sum(_add(connection, node_id, stream, record) for record in records)


def _add(connection: sqlite3.Connection, node_id: str, stream: str, record: UsageRecord) -> bool:
    known = connection.execute(
        "SELECT 1 FROM usage WHERE node_id = ? AND stream = ? AND sequence = ?", (node_id, stream, record.sequence)
    ).fetchone()
    if known:
        return False
    row = connection.execute(
        f"SELECT {', '.join(_COUNTS)} FROM usage_spans WHERE node_id = ? AND span = ?",  # noqa: S608 - names of fields
        (node_id, record.span),
    ).fetchone()
    before = Counts(*row) if row else Counts()
    most = Counts(*map(max, record.total, before))
    connection.execute(
        "INSERT INTO usage_spans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (node_id, span) DO UPDATE SET"
        " to_at = max(to_at, excluded.to_at), reason = coalesce(excluded.reason, reason),"
        " to_host_datagrams = excluded.to_host_datagrams, to_host_bytes = excluded.to_host_bytes,"
        " to_player_datagrams = excluded.to_player_datagrams, to_player_bytes = excluded.to_player_bytes",
        (node_id, record.span, record.session_id, record.began_at, record.to_at, record.reason, *most),
    )
    connection.execute(
        "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (node_id, stream, record.sequence, record.span, record.from_at, record.to_at, *most.minus(before)),
    )
    return True


def sums(connection: sqlite3.Connection, query: UsageQuery) -> list[UsageSum]:
    """A page of sums, by session and relay."""
    bounded = query.since is not None or query.until is not None
    # Without a period the spans know it all, and there are far fewer of them.
    table, begin = ("usage", "u.from_at") if bounded else ("usage_spans", "u.began_at")
    conditions = {
        "s.session_id = :session_id": query.session_id,
        "s.node_id = :relay": query.relay,
        "u.to_at >= :since": query.since,
        "u.to_at < :until": query.until,
        "(s.session_id, s.node_id) > (:after_session, :after_relay)": query.after,
    }
    wanted = " AND ".join(condition for condition, value in conditions.items() if value is not None) or "1"
    after_session, after_relay = query.after or (None, None)
    rows = connection.execute(
        f"SELECT s.session_id, s.node_id, min({begin}), max(u.to_at), min(s.reason IS NOT NULL), {_SUMS}"  # noqa: S608
        f" FROM {table} u JOIN usage_spans s USING (node_id, span) WHERE {wanted}"
        " GROUP BY s.session_id, s.node_id ORDER BY s.session_id, s.node_id LIMIT :limit",
        {**query._asdict(), "after_session": after_session, "after_relay": after_relay, "after": None},
    )
    return [
        UsageSum(session_id, relay, from_at, to_at, bool(ended), Counts(*map(int, counts)))
        for session_id, relay, from_at, to_at, ended, *counts in rows
    ]


def forget(connection: sqlite3.Connection, before: float) -> None:
    """Drops records of periods that ended before that, and spans that did."""
    connection.execute(
        "DELETE FROM usage WHERE (node_id, stream, sequence) IN"
        " (SELECT node_id, stream, sequence FROM usage WHERE to_at < ? LIMIT ?)",
        (before, FORGOTTEN_AT_ONCE),
    )
    connection.execute(
        "DELETE FROM usage_spans WHERE (node_id, span) IN"
        " (SELECT node_id, span FROM usage_spans WHERE to_at < ? AND reason IS NOT NULL LIMIT ?)",
        (before, FORGOTTEN_AT_ONCE),
    )
