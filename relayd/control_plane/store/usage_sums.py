"""Usage by session. What counts is the difference to the most that a span reported before: see relayd/core/usage.py."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import (
    Connection,
    Double,
    RowMapping,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from relayd.control_plane.store import schema
from relayd.control_plane.usage_models import UsageQuery, UsageSum
from relayd.core.usage import Counts, UsageRecord

FORGOTTEN_AT_ONCE = 20_000
"""Records, so that nobody waits for long."""

_AT_ONCE = 1000
"""Records that are looked up together."""

_COUNTS = Counts._fields
_spans, _usage = schema.usage_spans, schema.usage

_SPANS = select(_spans).where(_spans.c.span.in_(bindparam("spans", expanding=True)))
_SAY = (
    update(_spans)
    .where(_spans.c.span == bindparam("of_span"))
    .values({name: bindparam(f"new_{name}") for name in ("to_at", "reason", *_COUNTS)})
)
_insert = insert(_usage)
_ADD = _insert.on_conflict_do_update(
    index_elements=[_usage.c.span, _usage.c.to_at],
    set_={name: _usage.c[name] + _insert.excluded[name] for name in _COUNTS}
    | {
        "from_at": case((_usage.c.from_at < _insert.excluded.from_at, _usage.c.from_at), else_=_insert.excluded.from_at)
    },
)
_FORGET = delete(_usage).where(
    tuple_(_usage.c.span, _usage.c.to_at).in_(
        select(_usage.c.span, _usage.c.to_at).where(_usage.c.to_at < bindparam("before")).limit(bindparam("limit"))
    )
)
_FORGET_SPANS = delete(_spans).where(
    _spans.c.span.in_(
        select(_spans.c.span)
        .where(_spans.c.to_at < bindparam("before"), _spans.c.reason.is_not(None))
        .limit(bindparam("limit"))
    )
)


class _Span(NamedTuple):
    """What is known of a span."""

    session_id: str
    node_id: str
    began_at: float
    to_at: float
    reason: str | None
    most: Counts


def add(connection: Connection, node_id: str, records: Sequence[UsageRecord]) -> int:
    """Takes records. Returns how many of them say more than those before.

    Not by their numbers, which a relay may give again if the end of its journal was damaged, or its disk was copied.
    """
    return sum(
        _add(connection, node_id, records[begin : begin + _AT_ONCE]) for begin in range(0, len(records), _AT_ONCE)
    )


def _add(connection: Connection, node_id: str, records: Sequence[UsageRecord]) -> int:
    before = _known_spans(connection, {record.span for record in records})
    spans = dict(before)
    parts: dict[tuple[str, float], tuple[float, Counts]] = {}
    news = 0
    for record in records:
        known = spans.get(record.span)
        span = _after(known, record, node_id)
        if span == known:
            continue
        news += 1
        spans[record.span] = span
        more = span.most.minus(known.most) if known else span.most
        if any(more):
            part = (record.span, record.to_at)
            from_at, counts = parts.get(part, (record.from_at, Counts()))
            parts[part] = min(from_at, record.from_at), counts.plus(more)
    _write_spans(connection, before, spans)
    _write_parts(connection, parts)
    return news


def _after(known: _Span | None, record: UsageRecord, node_id: str) -> _Span:
    """What is known of a span once that record was read."""
    if known is None:
        most = Counts(*map(max, record.total, Counts()))
        return _Span(record.session_id, node_id, record.began_at, record.to_at, record.reason, most)
    return known._replace(
        to_at=max(known.to_at, record.to_at),
        reason=record.reason or known.reason,
        most=Counts(*map(max, record.total, known.most)),
    )


def _known_spans(connection: Connection, names: set[str]) -> dict[str, _Span]:
    return {
        row["span"]: _Span(
            row["session_id"], row["node_id"], row["began_at"], row["to_at"], row["reason"], _counts(row)
        )
        for row in connection.execute(_SPANS, {"spans": list(names)}).mappings()
    }


def _write_spans(connection: Connection, before: dict[str, _Span], spans: dict[str, _Span]) -> None:
    new = [
        {
            "span": name,
            "session_id": span.session_id,
            "node_id": span.node_id,
            "began_at": span.began_at,
            "to_at": span.to_at,
            "reason": span.reason,
            **span.most._asdict(),
        }
        for name, span in spans.items()
        if name not in before
    ]
    changed = [
        {"of_span": name, "new_to_at": span.to_at, "new_reason": span.reason}
        | {f"new_{count}": value for count, value in span.most._asdict().items()}
        for name, span in spans.items()
        if name in before and span != before[name]
    ]
    if new:
        connection.execute(insert(_spans), new)
    if changed:
        connection.execute(_SAY, changed)


def _write_parts(connection: Connection, parts: dict[tuple[str, float], tuple[float, Counts]]) -> None:
    rows = [
        {"span": span, "to_at": to_at, "from_at": from_at, **counts._asdict()}
        for (span, to_at), (from_at, counts) in parts.items()
    ]
    if rows:
        connection.execute(_ADD, rows)


def sums(connection: Connection, query: UsageQuery) -> list[UsageSum]:
    """A page of sums, by session and relay."""
    bounded = query.since is not None or query.until is not None
    # Without a period the spans know it all. With one they tell which of them have a part in it: outer, so that SQLite
    # goes through the spans in the order of the page and no further (sqlite.org/optoverview.html, 8.2).
    counted, begin = (_usage, _usage.c.from_at) if bounded else (_spans, _spans.c.began_at)
    of_period = [_usage.c.span == _spans.c.span]
    wanted = []
    if query.session_id is not None:
        wanted.append(_spans.c.session_id == query.session_id)
    if query.relay is not None:
        wanted.append(_spans.c.node_id == query.relay)
    if query.since is not None:
        wanted.append(_spans.c.to_at >= query.since)
        of_period.append(_usage.c.to_at >= query.since)
    if query.until is not None:
        wanted.append(_spans.c.began_at < query.until)
        of_period.append(_usage.c.to_at < query.until)
    if query.after is not None:
        wanted.append(tuple_(_spans.c.session_id, _spans.c.node_id) > tuple_(*query.after))
    # As floating point numbers, which do not overflow once a relay with a defect reported such counts, and which are
    # exact up to 2**53.
    added_up = [func.sum(cast(counted.c[name], Double)).label(name) for name in _COUNTS]
    statement = (
        select(
            _spans.c.session_id,
            _spans.c.node_id,
            func.min(begin).label("from_at"),
            func.max(counted.c.to_at).label("to_at"),
            func.min(case((counted.c.span.is_(None), None), (_spans.c.reason.is_(None), 0), else_=1)).label("ended"),
            *added_up,
        )
        .select_from(_spans.outerjoin(_usage, and_(*of_period)) if bounded else _spans)
        .where(*wanted)
        .group_by(_spans.c.session_id, _spans.c.node_id)
        .having(func.count(counted.c.span) > 0)
        .order_by(_spans.c.session_id, _spans.c.node_id)
        .limit(query.limit)
    )
    return [
        UsageSum(row["session_id"], row["node_id"], row["from_at"], row["to_at"], bool(row["ended"]), _counts(row))
        for row in connection.execute(statement).mappings()
    ]


def forget(connection: Connection, before: float) -> bool:
    """Drops records of periods that ended before that, and spans that did. Returns whether there may be more."""
    some = {"before": before, "limit": FORGOTTEN_AT_ONCE}
    dropped = [connection.execute(statement, some).rowcount for statement in (_FORGET, _FORGET_SPANS)]
    return max(dropped) == FORGOTTEN_AT_ONCE


def _counts(row: RowMapping) -> Counts:
    return Counts(*(int(row[name]) for name in _COUNTS))
