"""Relays in SQLite, and what each of them is told of its sessions."""

import json
import secrets
import sqlite3
from collections.abc import Sequence
from itertools import groupby

from relayd.control_plane.errors import NodeTakenError
from relayd.control_plane.fleet.placement import SILENT_AFTER
from relayd.control_plane.models import Heartbeat, NodeSessions
from relayd.control_plane.render import session_json
from relayd.control_plane.store import sessions
from relayd.control_plane.store.contract import Heard, NodeRecord, Untaken

REMOVALS_KEPT = 100_000
"""Deletions a relay can be told of one by one; one that missed more reads everything."""

REMOVALS_KEPT_FOR = 86_400.0
"""Seconds."""

SILENT_NODE_KEPT_FOR = 86_400.0
"""Seconds that a silent relay without sessions is remembered."""

UNTAKEN_AFTER = 30.0
"""Seconds after its creation that a session may wait for a silent relay."""

_UNTAKEN = "Its relay fell silent before it took the session; create the session again."


def heartbeat(connection: sqlite3.Connection, node_id: str, beat: Heartbeat, now: float) -> Heard:
    """Records the relay, removes what it ended, makes ready what it has applied.

    Raises:
        NodeTakenError: a relay at another address, or with other ports, was heard under that name a moment ago.
    """
    _refuse_second(connection, node_id, beat, now)
    # A new relay begins at the newest revision, not at 0: one that was forgotten and comes back never goes backwards.
    connection.execute(
        "INSERT INTO nodes VALUES"
        " (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT value FROM meta WHERE name = 'revision'))"
        " ON CONFLICT (node_id) DO UPDATE SET"
        " ip = excluded.ip, host = excluded.host, server_port = excluded.server_port,"
        " client_port = excluded.client_port, attributes = excluded.attributes, latitude = excluded.latitude,"
        " longitude = excluded.longitude, capacity = excluded.capacity, load = excluded.load,"
        " draining = excluded.draining, heard_at = excluded.heard_at",
        (
            node_id,
            beat.ip,
            beat.host,
            beat.server_port,
            beat.client_port,
            json.dumps(beat.attributes),
            beat.latitude,
            beat.longitude,
            beat.capacity,
            beat.load,
            beat.draining,
            now,
        ),
    )
    ended = _end(connection, node_id, beat.ended, now)
    newest = _revision(connection, node_id) or 0
    # A revision beyond the newest comes from a store that was put back to an older copy, and says nothing about ours.
    applied = beat.revision if beat.epoch == epoch(connection) and beat.revision <= newest else 0
    return Heard(newest, _make_ready(connection, node_id, applied, now), ended)


def nodes(connection: sqlite3.Connection) -> list[NodeRecord]:
    """All relays."""
    return [
        NodeRecord(
            node_id,
            Heartbeat(
                ip=ip,
                host=host,
                server_port=server_port,
                client_port=client_port,
                attributes=json.loads(attributes),
                latitude=latitude,
                longitude=longitude,
                capacity=capacity,
                load=load,
                draining=bool(draining),
            ),
            heard_at,
            revision,
        )
        for (
            node_id,
            ip,
            host,
            server_port,
            client_port,
            attributes,
            latitude,
            longitude,
            capacity,
            load,
            draining,
            heard_at,
            revision,
        ) in connection.execute("SELECT * FROM nodes")
    ]


def node_sessions(
    connection: sqlite3.Connection, node_id: str, since: int, known_epoch: str | None, after: str | None, limit: int
) -> NodeSessions | None:
    """A page of the relay's sessions, or of what changed after `since`; None for an unknown relay."""
    revision = _revision(connection, node_id)
    if revision is None:
        return None
    ours = epoch(connection)
    (floor,) = connection.execute("SELECT value FROM meta WHERE name = 'removed_floor'").fetchone()
    # A revision we have not reached yet comes from a store that was put back to an older copy.
    full = known_epoch != ours or not floor <= since <= revision
    # Named, because SQLite would rather go through all sessions in order than sort the few that changed.
    source, bound = ("sessions_by_node", "") if full else ("sessions_by_change", " AND s.revision > :since")
    rows = connection.execute(
        sessions.SELECT.replace("sessions s", f"sessions s INDEXED BY {source}")
        + f"WHERE s.node_id = :node{bound} AND s.session_id > :after ORDER BY s.session_id LIMIT :limit",
        {"node": node_id, "since": since, "after": after or "", "limit": limit + 1},
    ).fetchall()
    removed = []
    if not full and after is None:
        removed = [
            session_id
            for (session_id,) in connection.execute(
                "SELECT session_id FROM removed WHERE node_id = ? AND revision > ? ORDER BY revision", (node_id, since)
            )
        ]
    more = len(rows) > limit
    shown = sessions.shown(connection, rows[:limit], to_relay=True)
    return NodeSessions.model_construct(
        epoch=ours,
        revision=revision,
        full=full,
        sessions=shown,
        removed=removed,
        next=shown[-1].session_id if more else None,
    )


def untaken(connection: sqlite3.Connection, now: float) -> list[tuple[str, str]]:
    """Silent relays, each with a session that has waited for it for too long; relay by relay."""
    # The relays first: few are silent, and of each the index has only the sessions that wait.
    return connection.execute(
        "SELECT n.node_id, s.session_id FROM nodes n CROSS JOIN sessions s INDEXED BY sessions_waiting"
        " ON s.node_id = n.node_id AND s.status = 'Initializing'"
        " WHERE n.heard_at < ? AND s.created_at < ? ORDER BY n.node_id",
        (now - SILENT_AFTER, now - UNTAKEN_AFTER),
    ).fetchall()


def fail_untaken(connection: sqlite3.Connection, now: float) -> list[Untaken]:
    """Fails those sessions, and takes them from their relays, which may come back and read them."""
    failed = []
    by_node = groupby(untaken(connection, now), key=lambda row: row[0])
    for node_id, rows in by_node:
        session_ids = tuple(session_id for _, session_id in rows)
        revision = sessions.note_removed(connection, node_id, session_ids, now)
        sessions.fail(connection, session_ids, _UNTAKEN)
        failed.append(Untaken(node_id, session_ids, revision))
    return failed


def forget(connection: sqlite3.Connection, now: float) -> None:
    """Shortens the log of deletions, and forgets relays that are gone."""
    (floor,) = connection.execute(
        "SELECT max(coalesce(max(revision), 0),"
        " coalesce((SELECT revision FROM removed ORDER BY revision DESC LIMIT 1 OFFSET ?), 0))"
        " FROM removed WHERE removed_at < ?",
        (REMOVALS_KEPT, now - REMOVALS_KEPT_FOR),
    ).fetchone()
    if floor:
        connection.execute("DELETE FROM removed WHERE revision <= ?", (floor,))
        connection.execute("UPDATE meta SET value = max(value, ?) WHERE name = 'removed_floor'", (floor,))
    connection.execute(
        "DELETE FROM nodes WHERE heard_at < ?"
        " AND NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.node_id = nodes.node_id)",
        (now - SILENT_NODE_KEPT_FOR,),
    )


def epoch(connection: sqlite3.Connection) -> str:
    """Names this store's history."""
    (value,) = connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
    return str(value)


def _refuse_second(connection: sqlite3.Connection, node_id: str, beat: Heartbeat, now: float) -> None:
    row = connection.execute(
        "SELECT ip, server_port, client_port, heard_at FROM nodes WHERE node_id = ?", (node_id,)
    ).fetchone()
    if row is None:
        return
    ip, server_port, client_port, heard_at = row
    # Either sign: a clock that was put back must not keep a relay out until it is where it was.
    if (ip, server_port, client_port) != beat.address and abs(now - heard_at) <= SILENT_AFTER:
        raise NodeTakenError(
            f"{node_id} is also heard from {ip}, ports {server_port} and {client_port}; give each relay its own"
            " relay.id"
        )


def _end(connection: sqlite3.Connection, node_id: str, session_ids: Sequence[str], now: float) -> tuple[str, ...]:
    """Removes those of the sessions that are that relay's; returns which. All at once: there may be thousands."""
    if not session_ids:
        return ()
    ended = tuple(
        session_id
        for (session_id,) in connection.execute(
            "DELETE FROM sessions WHERE node_id = ? AND session_id IN (SELECT value FROM json_each(?))"
            " RETURNING session_id",
            # What cannot be an id is left out: SQLite would end a text at its first NUL, and might find another.
            (node_id, json.dumps([one for one in session_ids if one.isascii() and one.isprintable()])),
        )
    )
    sessions.count(connection, -len(ended))
    sessions.note_removed(connection, node_id, ended, now)
    return ended


def _make_ready(connection: sqlite3.Connection, node_id: str, applied: int, now: float) -> tuple[str, ...]:
    """Makes ready what the relay has applied, and in the same transaction queues the webhook calls that are due."""
    rows = connection.execute(
        "UPDATE sessions SET status = 'Ready' WHERE status = 'Initializing' AND node_id = ? AND created_revision <= ?"
        " RETURNING session_id, webhook_url",
        (node_id, applied),
    ).fetchall()
    for session_id, webhook_url in rows:
        session = sessions.get(connection, session_id) if webhook_url else None
        if session is not None:
            connection.execute(
                "INSERT INTO outbox VALUES (?, ?, ?, ?, 0, ?, ?)",
                (f"msg_{secrets.token_hex(12)}", session_id, webhook_url, session_json(session), now, now),
            )
    return tuple(session_id for session_id, _ in rows)


def _revision(connection: sqlite3.Connection, node_id: str) -> int | None:
    row = connection.execute("SELECT revision FROM nodes WHERE node_id = ?", (node_id,)).fetchone()
    return None if row is None else int(row[0])
