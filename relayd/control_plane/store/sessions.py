"""Sessions in SQLite: each function is one piece of work inside a transaction somebody else opens."""

import json
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from relayd.control_plane.errors import ConflictError, NotFoundError
from relayd.control_plane.models import SessionPage
from relayd.control_plane.store.contract import Authorized, Changed, NewSession
from relayd.core.relay_session import Relay, RelayPort, RelayPorts, RelaySession, SessionUser
from relayd.core.wire import MAX_TOKEN

INITIALIZING = "Initializing"
READY = "Ready"
ERROR = "Error"

SELECT = (
    "SELECT s.session_id, s.token, s.status, s.error, s.webhook_url, s.node_id, s.revision,"
    " n.ip, n.host, n.server_port, n.client_port FROM sessions s LEFT JOIN nodes n ON n.node_id = s.node_id "
)

_PAGE = "WHERE s.number IN (SELECT number FROM sessions ORDER BY number LIMIT ? OFFSET ?) ORDER BY s.number"

Row = Sequence[Any]


def create(connection: sqlite3.Connection, new: NewSession) -> Changed:
    """A new session and its users."""
    revision = next_revision(connection)
    failed = new.node_id is None
    while True:
        session_id = f"{secrets.token_hex(6)}-S"
        token = None if failed else _random_token()
        made = connection.execute(
            "INSERT OR IGNORE INTO sessions (session_id, token, status, error, node_id, created_revision, revision,"
            " created_at, webhook_url) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                session_id,
                token,
                ERROR if failed else INITIALIZING,
                new.error,
                new.node_id,
                revision,
                revision,
                new.created_at,
                new.webhook_url,
            ),
        )
        if made.rowcount == 1:
            break
    if not failed:
        for position, user in enumerate(new.users):
            _add_user(connection, session_id, position, user.ip, user.latitude, user.longitude)
    count(connection, 1)
    touch_node(connection, new.node_id, revision)
    return Changed(_one(connection, session_id), new.node_id, revision)


def get(connection: sqlite3.Connection, session_id: str) -> RelaySession | None:
    """The session as the API shows it."""
    rows = connection.execute(SELECT + "WHERE s.session_id = ?", (session_id,)).fetchall()
    return shown(connection, rows)[0] if rows else None


def page(connection: sqlite3.Connection, number: int, limit: int) -> SessionPage:
    """Sessions in the order of their creation."""
    (total,) = connection.execute("SELECT value FROM meta WHERE name = 'session_count'").fetchone()
    offset = (number - 1) * limit
    rows: list[Row] = []
    if offset < total:
        rows = connection.execute(
            SELECT + _PAGE,
            (limit, offset),
        ).fetchall()
    return SessionPage(sessions=shown(connection, rows), total=total, page=number, limit=limit)


def authorize(connection: sqlite3.Connection, session_id: str, ip: str) -> Authorized:
    """One more user of the session."""
    node_id = _node_of(connection, session_id)
    if node_id is None:
        raise ConflictError(f"Session {session_id} failed and takes no users; create a new session.")
    taken = connection.execute("SELECT 1 FROM users WHERE session_id = ? AND ip = ?", (session_id, ip)).fetchone()
    if taken:
        raise ConflictError(f"{ip} is authorized in session {session_id} already; its token is in session_users.")
    (position,) = connection.execute(
        "SELECT coalesce(max(position), -1) + 1 FROM users WHERE session_id = ?", (session_id,)
    ).fetchone()
    token = _add_user(connection, session_id, position, ip, None, None)
    changed = _changed(connection, session_id, node_id)
    return Authorized(changed, SessionUser(ip_address=ip, authorization_token=token))


def revoke(connection: sqlite3.Connection, session_id: str, token: int) -> Changed:
    """The session without that user."""
    node_id = _node_of(connection, session_id)
    # No token is outside of u32, and SQLite has no integer above 64 bits to compare with.
    known = 0 < token <= MAX_TOKEN
    gone = (
        known
        and connection.execute("DELETE FROM users WHERE session_id = ? AND token = ?", (session_id, token)).rowcount
    )
    if not gone:
        raise NotFoundError(
            f"Session {session_id} has no user with that authorization_token; read the session for those it has."
        )
    return _changed(connection, session_id, node_id)


def delete(connection: sqlite3.Connection, session_id: str, now: float) -> Changed:
    """Removes the session and, if a relay has it, notes the removal for that relay."""
    node_id = _node_of(connection, session_id)
    session = _one(connection, session_id)
    connection.execute("DELETE FROM sessions WHERE session_id = ?", (session_id,))
    count(connection, -1)
    if node_id is None:
        return Changed(session, None, next_revision(connection))
    return Changed(session, node_id, note_removed(connection, node_id, (session_id,), now))


def note_removed(connection: sqlite3.Connection, node_id: str, session_ids: Sequence[str], now: float) -> int:
    """Tells that relay that these sessions are gone, one revision each; returns the newest revision."""
    newest = next_revision(connection, len(session_ids))
    connection.execute(
        "INSERT INTO removed SELECT ? + key, ?, value, ? FROM json_each(?)",
        (newest - len(session_ids) + 1, node_id, now, json.dumps(session_ids)),
    )
    if session_ids:
        touch_node(connection, node_id, newest)
    return newest


def fail(connection: sqlite3.Connection, session_ids: Sequence[str], error: str) -> None:
    """Makes them as if they had never been placed: on no relay, without users and tokens."""
    ids = json.dumps(session_ids)
    connection.execute(
        "UPDATE sessions SET status = 'Error', error = ?, node_id = NULL, token = NULL"
        " WHERE session_id IN (SELECT value FROM json_each(?))",
        (error, ids),
    )
    connection.execute("DELETE FROM users WHERE session_id IN (SELECT value FROM json_each(?))", (ids,))


def drop_failed(connection: sqlite3.Connection, created_before: float) -> int:
    """Removes failed sessions older than that; returns how many."""
    dropped = connection.execute(
        "DELETE FROM sessions WHERE status = 'Error' AND created_at < ?", (created_before,)
    ).rowcount
    count(connection, -dropped)
    return dropped


def shown(connection: sqlite3.Connection, rows: Iterable[Row], *, to_relay: bool = False) -> list[RelaySession]:
    """Rows of `SELECT` as sessions. Only the relay sees tokens of a session it has not applied yet.

    Built without validation, which took most of the time of a full load: what the store holds was validated on its way
    in.
    """
    rows = list(rows)
    users: dict[str, list[SessionUser]] = {}
    ids = json.dumps([row[0] for row in rows])
    for session_id, token, ip, latitude, longitude in connection.execute(
        "SELECT session_id, token, ip, latitude, longitude FROM users"
        " WHERE session_id IN (SELECT value FROM json_each(?)) ORDER BY session_id, position",
        (ids,),
    ):
        users.setdefault(session_id, []).append(
            SessionUser.model_construct(
                ip_address=ip, latitude=latitude, longitude=longitude, authorization_token=token
            )
        )
    sessions = []
    for session_id, token, status, error, webhook_url, _, _, ip, host, server_port, client_port in rows:
        ready = status == READY
        whole = ready or to_relay
        sessions.append(
            RelaySession.model_construct(
                session_id=session_id,
                authorization_token=token if whole else None,
                status=status,
                ready=ready,
                linked=ready,
                error=error,
                session_users=users.get(session_id, []) if whole else [],
                relay=_relay(ip, host, server_port, client_port) if whole else None,
                webhook_url=webhook_url,
            )
        )
    return sessions


def next_revision(connection: sqlite3.Connection, changes: int = 1) -> int:
    """Counts one more change, or several; returns the revision of the last."""
    (revision,) = connection.execute(
        "UPDATE meta SET value = value + ? WHERE name = 'revision' RETURNING value", (changes,)
    ).fetchone()
    return int(revision)


def touch_node(connection: sqlite3.Connection, node_id: str | None, revision: int) -> None:
    """Notes the newest change of that relay's sessions."""
    connection.execute("UPDATE nodes SET revision = ? WHERE node_id = ?", (revision, node_id))


def count(connection: sqlite3.Connection, difference: int) -> None:
    """Keeps the number of sessions, which SQLite would have to go through all of them for."""
    connection.execute("UPDATE meta SET value = value + ? WHERE name = 'session_count'", (difference,))


def _relay(ip: str, host: str, server_port: int, client_port: int) -> Relay:
    name = f"[{host}]" if ":" in host else host
    return Relay.model_construct(
        ip=ip,
        host=host,
        ports=RelayPorts.model_construct(
            server=RelayPort.model_construct(port=server_port, link=f"{name}:{server_port}"),
            client=RelayPort.model_construct(port=client_port, link=f"{name}:{client_port}"),
        ),
    )


def _random_token() -> int:
    return 1 + secrets.randbelow(MAX_TOKEN)


def _add_user(
    connection: sqlite3.Connection,
    session_id: str,
    position: int,
    ip: str,
    latitude: float | None,
    longitude: float | None,
) -> int:
    while True:
        token = _random_token()
        added = connection.execute(
            "INSERT OR IGNORE INTO users VALUES (?, ?, ?, ?, ?, ?)",
            (session_id, position, token, ip, latitude, longitude),
        )
        if added.rowcount == 1:
            return token


def _node_of(connection: sqlite3.Connection, session_id: str) -> str | None:
    row = connection.execute("SELECT node_id FROM sessions WHERE session_id = ?", (session_id,)).fetchone()
    if row is None:
        raise NotFoundError(f"There is no session {session_id[:40]!r}; it may have been deleted or have ended.")
    node_id: str | None = row[0]
    return node_id


def _changed(connection: sqlite3.Connection, session_id: str, node_id: str | None) -> Changed:
    revision = next_revision(connection)
    connection.execute("UPDATE sessions SET revision = ? WHERE session_id = ?", (revision, session_id))
    touch_node(connection, node_id, revision)
    return Changed(_one(connection, session_id), node_id, revision)


def _one(connection: sqlite3.Connection, session_id: str) -> RelaySession:
    session = get(connection, session_id)
    if session is None:
        raise NotFoundError(f"There is no session {session_id[:40]!r}; it may have been deleted or have ended.")
    return session
