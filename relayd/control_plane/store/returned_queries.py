"""Sessions that the store lost when it went back, and that their relay hands back, since somebody plays in them.

Only the relay's own, and only where nothing contradicts: an id or a token that is in use, a session or a user that was
taken out since.
"""

import re
from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, insert, select

from relayd.control_plane.models import SESSION_ID_PATTERN
from relayd.control_plane.node_models import HandedBack
from relayd.control_plane.store import schema, session_queries
from relayd.control_plane.store.contract import Unwanted
from relayd.control_plane.store.schema import READY
from relayd.core.relay_session import SessionUser

_sessions, _users, _removed = schema.sessions, schema.users, schema.removed
_THERE = select(_sessions.c.node_id, _sessions.c.token, _sessions.c.revision).where(
    _sessions.c.session_id == bindparam("session_id")
)
# Has no index, and goes through all of the log: once for a heartbeat.
_REMOVED = select(_removed.c.session_id).where(_removed.c.session_id.in_(bindparam("session_ids", expanding=True)))
_TOKEN_TAKEN = select(_sessions.c.number).where(_sessions.c.token == bindparam("token"))
_TOKENS_TAKEN = select(_users.c.token).where(_users.c.token.in_(bindparam("tokens", expanding=True)))
_TOKENS_OF = select(_users.c.token).where(_users.c.session_id == bindparam("session_id"))
_INSERT = insert(_sessions)
_INSERT_USER = insert(_users)


def take_back(
    connection: Connection, node_id: str, handed: Sequence[HandedBack], *, common: int, unwanted: Unwanted, now: float
) -> tuple[str, ...]:
    """Takes those that can be taken.

    Args:
        connection: to the store.
        node_id: the relay that hands them back.
        handed: the sessions, with all of their users.
        common: a session that has not changed since that revision takes users back that it lacks.
        unwanted: what stays away.
        now: Unix time.

    Returns:
        the ids of those that are in the store now.
    """
    ids = [one.session_id for one in handed]
    removed = {(one, None) for one in connection.execute(_REMOVED, {"session_ids": ids}).scalars()}
    unwanted = {*unwanted, *removed}
    return tuple(one.session_id for one in handed if _take(connection, node_id, one, common, unwanted, now))


def _take(connection: Connection, node_id: str, one: HandedBack, common: int, unwanted: Unwanted, now: float) -> bool:
    session_id = one.session_id
    if (session_id, None) in unwanted or not re.fullmatch(SESSION_ID_PATTERN, session_id, re.ASCII):
        return False
    users = [user for user in one.session_users if (session_id, user.authorization_token) not in unwanted]
    there = connection.execute(_THERE, {"session_id": session_id}).first()
    if there is not None:
        if (there.node_id, there.token) != (node_id, one.authorization_token):
            return False
        if there.revision <= common:
            _take_users(connection, node_id, session_id, users)
        return True
    if connection.execute(_TOKEN_TAKEN, {"token": one.authorization_token}).first() is not None:
        return False
    if not users or not _are_free(connection, users):
        return False
    revision = session_queries.count(connection, sessions=1)
    made = {
        "session_id": session_id,
        "token": one.authorization_token,
        # The relay has it, and its backend was told so before.
        "status": READY,
        "error": None,
        "node_id": node_id,
        "created_revision": revision,
        "revision": revision,
        "created_at": now,
        "webhook_url": None,
    }
    connection.execute(_INSERT, made)
    _insert_users(connection, session_id, users, 0)
    session_queries.touch_node(connection, node_id, revision)
    return True


def _take_users(connection: Connection, node_id: str, session_id: str, users: Sequence[SessionUser]) -> None:
    """Adds those that the session lacks."""
    there = set(connection.execute(_TOKENS_OF, {"session_id": session_id}).scalars())
    missing = [user for user in users if user.authorization_token not in there]
    if missing and _are_free(connection, missing):
        _insert_users(connection, session_id, missing, session_queries.next_position(connection, session_id))
        session_queries.touch(connection, session_id, node_id)


def _are_free(connection: Connection, users: Sequence[SessionUser]) -> bool:
    """Whether nobody has one of their tokens, and each has an address as every user here."""
    tokens = [user.authorization_token for user in users]
    if len(set(tokens)) < len(tokens) or any(user.ip_address is None for user in users):
        return False
    for some in session_queries.in_parts(tokens):
        if connection.execute(_TOKENS_TAKEN, {"tokens": some}).first() is not None:
            return False
    return True


def _insert_users(connection: Connection, session_id: str, users: Sequence[SessionUser], first: int) -> None:
    rows = [
        {
            "session_id": session_id,
            "position": position,
            "token": user.authorization_token,
            "ip": user.ip_address,
            "latitude": user.latitude,
            "longitude": user.longitude,
        }
        for position, user in enumerate(users, first)
    ]
    connection.execute(_INSERT_USER, rows)
