"""Webhook calls that have not been answered yet."""

import secrets
from collections.abc import Sequence
from urllib.parse import urlsplit

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from relayd.control_plane.render import session_json
from relayd.control_plane.store import schema
from relayd.control_plane.store.contract import Delivery
from relayd.core.relay_session import RelaySession

_outbox = schema.outbox
_SECRET = select(schema.store.c.webhook_secret)
_UPCOMING = (
    select(*(_outbox.c[name] for name in Delivery._fields))
    .where(_outbox.c.host.not_in(bindparam("busy_hosts", expanding=True)))
    .order_by(_outbox.c.due_at)
    .limit(bindparam("limit"))
)
_POSTPONE = (
    update(_outbox)
    .where(_outbox.c.webhook_id == bindparam("of_webhook"))
    .values(attempts=_outbox.c.attempts + 1, due_at=bindparam("next_at"))
)
_HOW_MANY = select(func.count()).select_from(_outbox)
_INSERT = insert(_outbox)
_SETTLE = delete(_outbox).where(_outbox.c.webhook_id == bindparam("of_webhook"))


def secret(connection: Connection) -> str:
    """The secret made with this store."""
    return str(connection.execute(_SECRET).scalar_one())


def announce(connection: Connection, session: RelaySession, now: float) -> None:
    """Queues the call that tells what has become of the session, if there is anybody to tell."""
    if not session.webhook_url:
        return
    connection.execute(
        _INSERT,
        {
            "webhook_id": f"msg_{secrets.token_hex(12)}",
            "session_id": session.session_id,
            "url": session.webhook_url,
            "host": urlsplit(session.webhook_url).hostname or "",
            "body": session_json(session),
            "attempts": 0,
            "due_at": now,
            "created_at": now,
        },
    )


def upcoming(connection: Connection, limit: int, busy_hosts: Sequence[str]) -> list[Delivery]:
    """The calls due first, without those to these hosts."""
    rows = connection.execute(_UPCOMING, {"limit": limit, "busy_hosts": list(busy_hosts)}).mappings()
    return [Delivery(**row) for row in rows]


def total(connection: Connection) -> int:
    """How many there are."""
    return int(connection.execute(_HOW_MANY).scalar_one())


def postpone(connection: Connection, webhook_id: str, due_at: float) -> None:
    """Notes a failed attempt and when the next is."""
    connection.execute(_POSTPONE, {"of_webhook": webhook_id, "next_at": due_at})


def settle(connection: Connection, webhook_id: str) -> None:
    """Takes a call out."""
    connection.execute(_SETTLE, {"of_webhook": webhook_id})
