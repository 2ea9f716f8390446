"""Relays, and what each of them is told of its sessions."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, delete, func, insert, or_, select, true, update

from relayd.control_plane.errors import NodeTakenError
from relayd.control_plane.node_models import Heartbeat, NodeSessions
from relayd.control_plane.store import outbox_queries, returned_queries, schema, session_queries, start_queries
from relayd.control_plane.store.contract import (
    SILENT_AFTER,
    SILENT_NODE_KEPT_FOR,
    Heard,
    NodeRecord,
    Untaken,
    Unwanted,
)
from relayd.control_plane.store.schema import READY
from relayd.control_plane.store.session_queries import Found, Rows

REMOVALS_KEPT = 100_000
"""Deletions a relay can be told of one by one; one that missed more reads everything."""

REMOVALS_KEPT_FOR = 86_400.0
"""Seconds."""

UNTAKEN_AFTER = 30.0
"""Seconds after its creation that a session may wait for a silent relay."""

_UNTAKEN = "Its relay fell silent before it took the session; create the session again."

_nodes, _sessions, _removed, _store = (
    schema.nodes,
    schema.sessions,
    schema.removed,
    schema.store,
)

_SET: dict[str, BindParameter[Any]] = {
    column.name: bindparam(f"new_{column.name}") for column in _nodes.c if column.name not in ("node_id", "revision")
}
"""Columns that every heartbeat updates."""

_ALL = select(_nodes)
# Always one row; without a relay of that name its columns are null.
_HEARD_BEFORE = select(
    _store.c.revision.label("newest_of_all"),
    _nodes.c.ip,
    _nodes.c.server_port,
    _nodes.c.client_port,
    _nodes.c.heard_at,
    _nodes.c.revision,
).select_from(_store.outerjoin(_nodes, _nodes.c.node_id == bindparam("node_id")))
_STATE = (
    select(_store.c.removed_floor, _nodes.c.revision)
    .select_from(_nodes.join(_store, true()))
    .where(_nodes.c.node_id == bindparam("node_id"))
)
_JOIN = insert(_nodes).values(_SET | {name: bindparam(f"new_{name}") for name in ("node_id", "revision")})
_HEAR = update(_nodes).where(_nodes.c.node_id == bindparam("of_node")).values(_SET)
_END = (
    delete(_sessions)
    .where(
        _sessions.c.node_id == bindparam("node_id"),
        _sessions.c.session_id.in_(bindparam("session_ids", expanding=True)),
    )
    .returning(_sessions.c.session_id)
)
_MAKE_READY = (
    update(_sessions)
    .where(
        schema.waiting,
        _sessions.c.node_id == bindparam("of_node"),
        _sessions.c.created_revision <= bindparam("applied"),
    )
    .values(status=READY)
    .returning(_sessions.c.session_id, _sessions.c.webhook_url)
)
_PAGE = (
    session_queries.SELECT.where(_sessions.c.session_id > bindparam("after"))
    .order_by(_sessions.c.session_id)
    .limit(bindparam("limit"))
)
_OF_NODE = _PAGE.where(_sessions.c.node_id == bindparam("node_id"))
# On its own, because SQLite would rather go through all sessions of the relay in order than sort the few that changed.
_changed = (
    select(_sessions.c.number)
    .where(_sessions.c.node_id == bindparam("node_id"), _sessions.c.revision > bindparam("since"))
    .cte("changed")
    .prefix_with("MATERIALIZED")
)
_CHANGED = _PAGE.where(_sessions.c.number.in_(select(_changed.c.number)))
_REMOVED = (
    select(_removed.c.session_id)
    .where(_removed.c.node_id == bindparam("node_id"), _removed.c.revision > bindparam("since"))
    .order_by(_removed.c.revision)
)
# One created in the future was so by another clock, before this program started: long enough ago.
# The relays first: few are silent, and of each the index has only the sessions that wait.
_UNTAKEN_BY_NODE = (
    select(_sessions.c.node_id, _sessions.c.session_id, _sessions.c.webhook_url)
    .where(
        schema.waiting,
        _sessions.c.node_id.in_(select(_nodes.c.node_id).where(_nodes.c.heard_at < bindparam("heard_before"))),
        or_(_sessions.c.created_at < bindparam("created_before"), _sessions.c.created_at > bindparam("now")),
    )
    .order_by(_sessions.c.node_id)
)
_OLDEST_KEPT = select(_removed.c.revision).order_by(_removed.c.revision.desc()).limit(1).offset(bindparam("kept"))
_NEWEST_OLD = select(func.max(_removed.c.revision)).where(_removed.c.removed_at < bindparam("removed_before"))
_FORGET_REMOVED = delete(_removed).where(_removed.c.revision <= bindparam("floor"))
_RAISE_FLOOR = (
    update(_store).where(_store.c.removed_floor < bindparam("floor")).values(removed_floor=bindparam("floor"))
)
_FORGET_NODES = delete(_nodes).where(
    _nodes.c.heard_at < bindparam("heard_before"),
    ~select(_sessions.c.number).where(_sessions.c.node_id == _nodes.c.node_id).exists(),
)


def heartbeat(connection: Connection, node_id: str, beat: Heartbeat, now: float, unwanted: Unwanted = ()) -> Heard:
    """Records the relay, removes what it ended, makes ready what it has applied, takes back what this store lost.

    Raises:
        NodeTakenError: a relay at another address, or with other ports, was heard under that name a moment ago.
    """
    before = connection.execute(_HEARD_BEFORE, {"node_id": node_id}).one()
    said = {
        "new_ip": beat.ip,
        "new_host": beat.host,
        "new_server_port": beat.server_port,
        "new_client_port": beat.client_port,
        "new_attributes": beat.attributes,
        "new_latitude": beat.latitude,
        "new_longitude": beat.longitude,
        "new_capacity": beat.capacity,
        "new_load": beat.load,
        "new_draining": beat.draining,
        "new_heard_at": now,
        "new_own_addresses": beat.own_addresses,
        "new_own_ports": beat.own_ports,
    }
    if before.revision is None:
        # At the newest revision, not at 0: one that was forgotten and comes back never goes backwards.
        newest = before.newest_of_all
        connection.execute(_JOIN, said | {"new_node_id": node_id, "new_revision": newest})
    else:
        _refuse_second(before, node_id, beat, now)
        newest = before.revision
        connection.execute(_HEAR, said | {"of_node": node_id})
    ended = _end(connection, node_id, beat.ended)
    if ended:
        newest = session_queries.note_removed(connection, node_id, ended, now)
    standing = start_queries.standing(connection, beat.epoch, beat.revision, newest)
    ready = _make_ready(connection, node_id, beat.revision if standing.known else 0, now)
    taken: tuple[str, ...] = ()
    if beat.handed_back and standing.went_back:
        taken = returned_queries.take_back(
            connection, node_id, beat.handed_back, common=standing.common, unwanted=unwanted, now=now
        )
        newest = connection.execute(_STATE, {"node_id": node_id}).one().revision
    return Heard(newest, ready, ended, standing.went_back, taken)


def nodes(connection: Connection) -> list[NodeRecord]:
    """All relays."""
    return [
        NodeRecord(
            row.node_id,
            Heartbeat(
                ip=row.ip,
                host=row.host,
                server_port=row.server_port,
                client_port=row.client_port,
                attributes=row.attributes,
                latitude=row.latitude,
                longitude=row.longitude,
                capacity=row.capacity,
                load=row.load,
                draining=row.draining,
                own_addresses=row.own_addresses,
                own_ports=row.own_ports,
            ),
            row.heard_at,
            row.revision,
        )
        for row in connection.execute(_ALL)
    ]


def node_sessions(
    connection: Connection, node_id: str, *, since: int, known_epoch: str | None, after: str | None, limit: int
) -> NodeSessions | None:
    """A page of the relay's sessions, or of what changed after `since`; None for an unknown relay."""
    state = connection.execute(_STATE, {"node_id": node_id}).first()
    if state is None:
        return None
    known = start_queries.standing(connection, known_epoch, since, state.revision).known
    full = not (known and state.removed_floor <= since <= state.revision)
    about = {"node_id": node_id, "after": after or "", "limit": limit + 1}
    rows = (
        connection.execute(_OF_NODE, about).all()
        if full
        else connection.execute(_CHANGED, about | {"since": since}).all()
    )
    removed: Sequence[str] = ()
    if not full and after is None:
        removed = connection.execute(_REMOVED, {"node_id": node_id, "since": since}).scalars().all()
    shown = session_queries.shown(connection, rows[:limit], to_relay=True)
    return NodeSessions.model_construct(
        epoch=start_queries.epoch(connection),
        revision=state.revision,
        full=full,
        sessions=shown,
        removed=list(removed),
        next=shown[-1].session_id if len(rows) > limit else None,
    )


def untaken(connection: Connection, now: float) -> Rows:
    """`node_id` of silent relays, each with the `session_id` of one that has waited for too long; relay by relay."""
    return connection.execute(
        _UNTAKEN_BY_NODE, {"heard_before": now - SILENT_AFTER, "created_before": now - UNTAKEN_AFTER, "now": now}
    ).all()


def fail_untaken(connection: Connection, now: float) -> list[Untaken]:
    """Fails those sessions, says so to their backends, and takes them from their relays, which may come back."""
    failed = []
    waiting = untaken(connection, now)
    for node_id, rows in groupby(waiting, key=lambda row: str(row.node_id)):
        session_ids = tuple(row.session_id for row in rows)
        revision = session_queries.note_removed(connection, node_id, session_ids, now)
        session_queries.fail(connection, session_ids, _UNTAKEN)
        failed.append(Untaken(node_id, session_ids, revision))
    _announce(connection, [row.session_id for row in waiting if row.webhook_url], now)
    return failed


def forget(connection: Connection, now: float) -> None:
    """Shortens the log of deletions, and forgets relays that are gone."""
    floors = (
        connection.execute(_OLDEST_KEPT, {"kept": REMOVALS_KEPT}).scalar_one_or_none(),
        connection.execute(_NEWEST_OLD, {"removed_before": now - REMOVALS_KEPT_FOR}).scalar_one(),
    )
    floor = max(one or 0 for one in floors)
    if floor:
        connection.execute(_FORGET_REMOVED, {"floor": floor})
        connection.execute(_RAISE_FLOOR, {"floor": floor})
    connection.execute(_FORGET_NODES, {"heard_before": now - SILENT_NODE_KEPT_FOR})


def _refuse_second(before: Found, node_id: str, beat: Heartbeat, now: float) -> None:
    # Either sign: a clock that was put back must not keep a relay out until it is where it was.
    silent = abs(now - before.heard_at) > SILENT_AFTER
    if (before.ip, before.server_port, before.client_port) != beat.address and not silent:
        raise NodeTakenError(
            f"{node_id} is also heard from {before.ip}, ports {before.server_port} and {before.client_port}; give each"
            " relay its own relay.id"
        )


def _end(connection: Connection, node_id: str, session_ids: Sequence[str]) -> tuple[str, ...]:
    """Removes those of the sessions that are that relay's; returns which. Many at once: there may be thousands."""
    # What cannot be an id is left out: SQLite would end a text at its first NUL, and might find another.
    possible = dict.fromkeys(one for one in session_ids if one.isascii() and one.isprintable())
    ended: list[str] = []
    for some in session_queries.in_parts(possible):
        ended += connection.execute(_END, {"node_id": node_id, "session_ids": some}).scalars()
    if ended:
        session_queries.count(connection, changes=0, sessions=-len(ended))
    return tuple(ended)


def _make_ready(connection: Connection, node_id: str, applied: int, now: float) -> tuple[str, ...]:
    """Makes ready what the relay has applied, and in the same transaction queues the webhook calls that are due."""
    if not applied:
        return ()
    ready = connection.execute(_MAKE_READY, {"of_node": node_id, "applied": applied}).all()
    _announce(connection, [row.session_id for row in ready if row.webhook_url], now)
    return tuple(row.session_id for row in ready)


def _announce(connection: Connection, session_ids: Sequence[str], now: float) -> None:
    for session_id in session_ids:
        session = session_queries.get(connection, session_id)
        if session is not None:
            outbox_queries.announce(connection, session, now)
