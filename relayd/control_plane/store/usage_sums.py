"""Usage in SQLite. What counts is the difference to the most that a span reported before: see relayd/core/usage.py."""

import sqlite3
import time
from collections.abc import Sequence

from relayd.control_plane.errors import InvalidRequestError
from relayd.control_plane.usage_models import UsageQuery, UsageSum
from relayd.core.usage import Counts, UsageRecord

FORGOTTEN_AT_ONCE = 20_000
"""Records, so that nobody waits for long."""
LONGEST_SECONDS = 20.0
"""For a page of sums."""
_STEPS_BETWEEN_LOOKS = 100_000
"""Of SQLite's machine: some milliseconds."""

_COUNTS = Counts._fields
_NONE = Counts()


def add(connection: sqlite3.Connection, node_id: str, records: Sequence[UsageRecord]) -> int:
    """Takes records. Returns how many of them say more than those before.

    Not by their numbers, which a relay may give again if the end of its journal was damaged, or its disk was copied.
    """
    return sum(_add(connection, node_id, record) for record in records)


def _add(connection: sqlite3.Connection, node_id: str, record: UsageRecord) -> bool:
    row = connection.execute(
        f"SELECT to_at, reason, {', '.join(_COUNTS)} FROM usage_spans WHERE span = ?",  # noqa: S608 - names of fields
        (record.span,),
    ).fetchone()
    to_at, reason, *counts = row or (record.to_at, None, *_NONE)
    before = Counts(*counts)
    most = Counts(*map(max, record.total, before))
    if row and most == before and record.to_at <= to_at and (reason or not record.reason):
        return False
    connection.execute(
        "INSERT INTO usage_spans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (span) DO UPDATE SET"
        " to_at = max(to_at, excluded.to_at), reason = coalesce(excluded.reason, reason),"
        " to_host_datagrams = excluded.to_host_datagrams, to_host_bytes = excluded.to_host_bytes,"
        " to_player_datagrams = excluded.to_player_datagrams, to_player_bytes = excluded.to_player_bytes",
        (record.span, record.session_id, node_id, record.began_at, record.to_at, record.reason, *most),
    )
    if most != before:
        connection.execute(
            "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " from_at = min(from_at, excluded.from_at),"
            " to_host_datagrams = to_host_datagrams + excluded.to_host_datagrams,"
            " to_host_bytes = to_host_bytes + excluded.to_host_bytes,"
            " to_player_datagrams = to_player_datagrams + excluded.to_player_datagrams,"
            " to_player_bytes = to_player_bytes + excluded.to_player_bytes",
            (record.span, record.to_at, record.from_at, *most.minus(before)),
        )
    return True


def sums(connection: sqlite3.Connection, query: UsageQuery) -> list[UsageSum]:
    """A page of sums, by session and relay.

    Raises:
        InvalidRequestError: it takes too long.
    """
    until = time.monotonic() + LONGEST_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS_BETWEEN_LOOKS)
    try:
        return _sums(connection, query)
    except sqlite3.OperationalError:
        if time.monotonic() <= until:
            raise
        raise InvalidRequestError("That takes too long: ask for one session, or for fewer sums a page.") from None
    finally:
        connection.set_progress_handler(None, 0)


def _sums(connection: sqlite3.Connection, query: UsageQuery) -> list[UsageSum]:
    bounded = query.since is not None or query.until is not None
    # Without a period the spans know it all. With one they tell which of them have a part in it: CROSS JOIN has SQLite
    # go through them in the order of the page and no further (sqlite.org/optoverview.html, 8.2).
    counted, begin, source = ("u", "from_at", "usage_spans s CROSS JOIN usage u ON u.span = s.span")
    if not bounded:
        counted, begin, source = ("s", "began_at", "usage_spans s")
    conditions = {
        "s.session_id = :session_id": query.session_id,
        "s.node_id = :relay": query.relay,
        f"s.to_at >= :since AND {counted}.to_at >= :since": query.since,
        f"s.began_at < :until AND {counted}.to_at < :until": query.until,
        "(s.session_id, s.node_id) > (:after_session, :after_relay)": query.after,
    }
    wanted = " AND ".join(condition for condition, value in conditions.items() if value is not None) or "1"
    after_session, after_relay = query.after or (None, None)
    # sum() fails above 63 bits, for good once a relay with a defect reported such counts. total() is exact up to 2**53
    # (sqlite.org/lang_aggfunc.html).
    added_up = ", ".join(f"total({counted}.{name})" for name in _COUNTS)
    rows = connection.execute(
        f"SELECT s.session_id, s.node_id, min({counted}.{begin}), max({counted}.to_at), min(s.reason IS NOT NULL),"  # noqa: S608
        f" {added_up} FROM {source} WHERE {wanted}"
        " GROUP BY s.session_id, s.node_id ORDER BY s.session_id, s.node_id LIMIT :limit",
        {**query._asdict(), "after_session": after_session, "after_relay": after_relay, "after": None},
    )
    return [
        UsageSum(session_id, relay, from_at, to_at, bool(ended), Counts(*map(int, counts)))
        for session_id, relay, from_at, to_at, ended, *counts in rows
    ]


def forget(connection: sqlite3.Connection, before: float) -> bool:
    """Drops records of periods that ended before that, and spans that did. Returns whether there may be more."""
    records = connection.execute(
        "DELETE FROM usage WHERE (span, to_at) IN (SELECT span, to_at FROM usage WHERE to_at < ? LIMIT ?)",
        (before, FORGOTTEN_AT_ONCE),
    ).rowcount
    spans = connection.execute(
        "DELETE FROM usage_spans WHERE span IN"
        " (SELECT span FROM usage_spans WHERE to_at < ? AND reason IS NOT NULL LIMIT ?)",
        (before, FORGOTTEN_AT_ONCE),
    ).rowcount
    return max(records, spans) == FORGOTTEN_AT_ONCE
