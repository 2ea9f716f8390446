"""Sessions: each function is one piece of work inside a transaction somebody else opens."""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from relayd.control_plane.errors import ConflictError, NotFoundError
from relayd.control_plane.models import NewUser, SessionPage
from relayd.control_plane.store import outbox_queries, schema
from relayd.control_plane.store.contract import Authorized, Changed, NewSession
from relayd.control_plane.store.schema import ERROR, INITIALIZING, READY
from relayd.core.relay_session import Relay, RelayPort, RelayPorts, RelaySession, SessionUser
from relayd.core.wire import MAX_TOKEN

T = TypeVar("T")
Found = Row[*tuple[Any, ...]]
"""A row whose columns are known by name."""
Rows = Sequence[Found]

AT_ONCE = 1000
"""Values in one statement: SQLite takes some 32,000, and long ones are not kept compiled."""

_sessions, _nodes, _users, _removed, _store = (
    schema.sessions,
    schema.nodes,
    schema.users,
    schema.removed,
    schema.store,
)

SELECT = select(
    _sessions.c.session_id,
    _sessions.c.token,
    _sessions.c.status,
    _sessions.c.error,
    _sessions.c.webhook_url,
    _nodes.c.ip,
    _nodes.c.host,
    _nodes.c.server_port,
    _nodes.c.client_port,
).select_from(_sessions.outerjoin(_nodes))

_ONE = SELECT.where(_sessions.c.session_id == bindparam("session_id"))
_PAGE = (
    SELECT.add_columns(_sessions.c.number)
    .where(
        _sessions.c.number.in_(
            select(_sessions.c.number)
            .where(_sessions.c.number > bindparam("after"))
            .order_by(_sessions.c.number)
            .limit(bindparam("limit"))
            .offset(bindparam("skip"))
        )
    )
    .order_by(_sessions.c.number)
)
_USERS = (
    select(_users.c.session_id, _users.c.token, _users.c.ip, _users.c.latitude, _users.c.longitude)
    .where(_users.c.session_id.in_(bindparam("session_ids", expanding=True)))
    .order_by(_users.c.session_id, _users.c.position)
)
_NODE_OF = select(_sessions.c.session_id, _sessions.c.node_id).where(_sessions.c.session_id == bindparam("session_id"))
_ADDRESS_TAKEN = select(_users.c.position).where(
    _users.c.session_id == bindparam("session_id"), _users.c.ip == bindparam("ip")
)
_NEXT_POSITION = select(func.coalesce(func.max(_users.c.position), -1) + 1).where(
    _users.c.session_id == bindparam("session_id")
)
_SESSION_COUNT = select(_store.c.session_count)
_COUNT = (
    update(_store)
    .values(
        revision=_store.c.revision + bindparam("changes"),
        session_count=_store.c.session_count + bindparam("more"),
    )
    .returning(_store.c.revision)
)
_TOUCH_NODE = (
    update(_nodes).where(_nodes.c.node_id == bindparam("of_node")).values(revision=bindparam("newest_revision"))
)
_TOUCH = (
    update(_sessions)
    .where(_sessions.c.session_id == bindparam("of_session"))
    .values(revision=bindparam("newest_revision"))
)
_INSERT = insert(_sessions)
_INSERT_USER = insert(_users)
_INSERT_REMOVED = insert(_removed)
_DELETE = delete(_sessions).where(_sessions.c.session_id == bindparam("session_id"))
_DELETE_USER = delete(_users).where(
    _users.c.session_id == bindparam("session_id"), _users.c.token == bindparam("token")
)
_DELETE_USERS = delete(_users).where(_users.c.session_id.in_(bindparam("session_ids", expanding=True)))
_FAIL = (
    update(_sessions)
    .where(_sessions.c.session_id.in_(bindparam("session_ids", expanding=True)))
    .values(status=ERROR, error=bindparam("why"), node_id=None, token=None)
)
_DROP_FAILED = delete(_sessions).where(schema.failed, _sessions.c.created_at < bindparam("created_before"))


def create(connection: Connection, new: NewSession, *, token_bits: int) -> Changed:
    """A new session and its users. Raises IntegrityError for a name or token drawn twice."""
    revision = count(connection, sessions=1)
    failed = new.node_id is None
    session_id = f"{secrets.token_hex(6)}-S"
    status = ERROR if failed else INITIALIZING
    made = {
        "session_id": session_id,
        "token": None if failed else _random_token(token_bits),
        "status": status,
        "error": new.error,
        "node_id": new.node_id,
        "created_revision": revision,
        "revision": revision,
        "created_at": new.created_at,
        "webhook_url": new.webhook_url,
    }
    connection.execute(_INSERT, made)
    if not failed:
        users = [_user(session_id, position, user, token_bits) for position, user in enumerate(new.users)]
        connection.execute(_INSERT_USER, users)
        touch_node(connection, new.node_id, revision)
    session = RelaySession.model_construct(
        session_id=session_id,
        status=status,
        ready=False,
        linked=False,
        error=new.error,
        session_users=[],
        webhook_url=new.webhook_url,
    )
    if failed:
        outbox_queries.announce(connection, session, new.created_at)
    return Changed(session, new.node_id, revision)


def get(connection: Connection, session_id: str) -> RelaySession | None:
    """The session as the API shows it."""
    rows = connection.execute(_ONE, {"session_id": session_id}).all()
    return shown(connection, rows)[0] if rows else None


def page(connection: Connection, number: int, limit: int, after: int | None = None) -> SessionPage:
    """Sessions in the order of their creation: those behind that one, or behind the pages before."""
    of_all = total(connection)
    skip = (number - 1) * limit if after is None else 0
    rows: Rows = ()
    if skip < of_all:
        rows = connection.execute(_PAGE, {"limit": limit + 1, "skip": skip, "after": after or 0}).all()
    found = rows[:limit]
    return SessionPage(
        sessions=shown(connection, found),
        total=of_all,
        page=number,
        limit=limit,
        more=len(rows) > limit,
        last=found[-1].number if found else None,
    )


def total(connection: Connection) -> int:
    """How many there are."""
    return int(connection.execute(_SESSION_COUNT).scalar_one())


def authorize(connection: Connection, session_id: str, ip: str, *, token_bits: int) -> Authorized:
    """One more user of the session. Raises IntegrityError for a token drawn twice."""
    node_id = _node_of(connection, session_id)
    if node_id is None:
        raise ConflictError(f"Session {session_id} failed and takes no users; create a new session.")
    if connection.execute(_ADDRESS_TAKEN, {"session_id": session_id, "ip": ip}).first():
        raise ConflictError(f"{ip} is authorized in session {session_id} already; its token is in session_users.")
    user = _user(session_id, next_position(connection, session_id), NewUser(ip=ip), token_bits)
    connection.execute(_INSERT_USER, user)
    revision = touch(connection, session_id, node_id)
    changed = Changed(_one(connection, session_id), node_id, revision)
    return Authorized(changed, SessionUser(ip_address=ip, authorization_token=user["token"]))


def revoke(connection: Connection, session_id: str, token: int) -> Changed:
    """The session without that user."""
    node_id = _node_of(connection, session_id)
    # No token is outside of u32, and a database has no integer above 64 bits to compare with.
    known = 0 < token <= MAX_TOKEN
    if not known or not connection.execute(_DELETE_USER, {"session_id": session_id, "token": token}).rowcount:
        raise NotFoundError(
            f"Session {session_id} has no user with that authorization_token; read the session for those it has."
        )
    revision = touch(connection, session_id, node_id)
    return Changed(_one(connection, session_id), node_id, revision)


def delete_session(connection: Connection, session_id: str, now: float) -> Changed:
    """Removes the session and, if a relay has it, notes the removal for that relay."""
    node_id = _node_of(connection, session_id)
    session = _one(connection, session_id)
    connection.execute(_DELETE, {"session_id": session_id})
    if node_id is None:
        return Changed(session, None, count(connection, sessions=-1))
    count(connection, changes=0, sessions=-1)
    return Changed(session, node_id, note_removed(connection, node_id, (session_id,), now))


def note_removed(connection: Connection, node_id: str, session_ids: Sequence[str], now: float) -> int:
    """Tells that relay that these sessions are gone, one revision each; returns the newest revision."""
    newest = count(connection, changes=len(session_ids))
    if session_ids:
        first = newest - len(session_ids) + 1
        connection.execute(
            _INSERT_REMOVED,
            [
                {"revision": revision, "node_id": node_id, "session_id": session_id, "removed_at": now}
                for revision, session_id in enumerate(session_ids, first)
            ],
        )
        touch_node(connection, node_id, newest)
    return newest


def fail(connection: Connection, session_ids: Sequence[str], error: str) -> None:
    """Resets them as if they had never been placed: on no relay, without users and tokens."""
    for some in in_parts(session_ids):
        connection.execute(_FAIL, {"session_ids": some, "why": error})
        connection.execute(_DELETE_USERS, {"session_ids": some})


def drop_failed(connection: Connection, created_before: float) -> None:
    """Removes failed sessions older than that."""
    dropped = connection.execute(_DROP_FAILED, {"created_before": created_before}).rowcount
    count(connection, changes=0, sessions=-dropped)


def shown(connection: Connection, rows: Rows, *, to_relay: bool = False) -> list[RelaySession]:
    """Rows of `SELECT` as sessions. Only the relay sees tokens of a session it has not applied yet.

    Built without validation, which took most of the time of a full load: what the store holds was validated on its way
    in.
    """
    whole = [row.session_id for row in rows if to_relay or row.status == READY]
    users: dict[str, list[SessionUser]] = {}
    for some in in_parts(whole):
        for user in connection.execute(_USERS, {"session_ids": some}):
            users.setdefault(user.session_id, []).append(
                SessionUser.model_construct(
                    ip_address=user.ip,
                    latitude=user.latitude,
                    longitude=user.longitude,
                    authorization_token=user.token,
                )
            )
    return [_shown(row, users.get(row.session_id, []), whole=to_relay or row.status == READY) for row in rows]


def count(connection: Connection, *, changes: int = 1, sessions: int = 0) -> int:
    """Counts changes and sessions, which a database would have to go through all of them for.

    Returns:
        the revision of the last of these changes.
    """
    return int(connection.execute(_COUNT, {"changes": changes, "more": sessions}).scalar_one())


def touch_node(connection: Connection, node_id: str | None, revision: int) -> None:
    """Notes the newest change of that relay's sessions."""
    connection.execute(_TOUCH_NODE, {"of_node": node_id, "newest_revision": revision})


def touch(connection: Connection, session_id: str, node_id: str | None) -> int:
    """Counts a change of that session, for its relay to hear of. Returns its revision."""
    revision = count(connection)
    connection.execute(_TOUCH, {"of_session": session_id, "newest_revision": revision})
    touch_node(connection, node_id, revision)
    return revision


def next_position(connection: Connection, session_id: str) -> int:
    """Behind all users of that session."""
    return int(connection.execute(_NEXT_POSITION, {"session_id": session_id}).scalar_one())


def in_parts(values: Iterable[T]) -> Iterator[list[T]]:
    """The values, `AT_ONCE` at a time."""
    left = iter(values)
    while some := list(islice(left, AT_ONCE)):
        yield some


def _shown(row: Found, users: list[SessionUser], *, whole: bool) -> RelaySession:
    ready = row.status == READY
    return RelaySession.model_construct(
        session_id=row.session_id,
        authorization_token=row.token if whole else None,
        status=row.status,
        ready=ready,
        linked=ready,
        error=row.error,
        session_users=users,
        relay=_relay(row.ip, row.host, row.server_port, row.client_port) if whole else None,
        webhook_url=row.webhook_url,
    )


@lru_cache(maxsize=1024)
def _relay(ip: str, host: str, server_port: int, client_port: int) -> Relay:
    """Made once for all sessions of a relay."""
    name = f"[{host}]" if ":" in host else host
    return Relay.model_construct(
        ip=ip,
        host=host,
        ports=RelayPorts.model_construct(
            server=RelayPort.model_construct(port=server_port, link=f"{name}:{server_port}"),
            client=RelayPort.model_construct(port=client_port, link=f"{name}:{client_port}"),
        ),
    )


def _user(session_id: str, position: int, user: NewUser, token_bits: int) -> dict[str, Any]:
    return {
        "session_id": session_id,
        "position": position,
        "token": _random_token(token_bits),
        "ip": user.ip,
        "latitude": user.latitude,
        "longitude": user.longitude,
    }


def _random_token(bits: int) -> int:
    return 1 + secrets.randbelow((1 << bits) - 1)


def _node_of(connection: Connection, session_id: str) -> str | None:
    row = connection.execute(_NODE_OF, {"session_id": session_id}).first()
    if row is None:
        raise _not_there(session_id)
    node_id: str | None = row.node_id
    return node_id


def _one(connection: Connection, session_id: str) -> RelaySession:
    session = get(connection, session_id)
    if session is None:
        raise _not_there(session_id)
    return session


def _not_there(session_id: str) -> NotFoundError:
    return NotFoundError(f"There is no session {session_id[:40]!r}; it may have been deleted or have ended.")
