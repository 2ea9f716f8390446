"""API keys."""

from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select

from relayd.control_plane.keys import Scope, StoredKey
from relayd.control_plane.store import schema

_keys = schema.keys
_ONE = select(_keys).where(_keys.c.key_id == bindparam("key_id"))
_ALL = select(_keys).order_by(_keys.c.created_at, _keys.c.key_id)
_DELETE = delete(_keys).where(_keys.c.key_id == bindparam("key_id"))


def add(connection: Connection, key: StoredKey) -> None:
    """Keeps a key."""
    connection.execute(insert(_keys), key._asdict() | {"scopes": " ".join(sorted(key.scopes))})


def get(connection: Connection, key_id: str) -> StoredKey | None:
    """The key with that id."""
    row = connection.execute(_ONE, {"key_id": key_id}).first()
    return None if row is None else _stored(row)


def keys(connection: Connection) -> list[StoredKey]:
    """All keys, oldest first."""
    return [_stored(row) for row in connection.execute(_ALL)]


def revoke(connection: Connection, key_id: str) -> bool:
    """Forgets a key; False when there is none."""
    return connection.execute(_DELETE, {"key_id": key_id}).rowcount > 0


def _stored(row: Row[Any]) -> StoredKey:
    scopes = frozenset(Scope(scope) for scope in row.scopes.split())
    return StoredKey(row.key_id, row.name, row.digest, scopes, row.created_at, row.node)
