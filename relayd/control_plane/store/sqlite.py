"""The store in one SQLite file: what `store.py` asks for, by the functions of `sqlite_…`."""

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any

from relayd.control_plane.keys import Scope, StoredKey
from relayd.control_plane.models import Heartbeat, NodeSessions, SessionPage
from relayd.control_plane.store import nodes as sqlite_nodes
from relayd.control_plane.store import sessions as sqlite_sessions
from relayd.control_plane.store import usage_sums as sqlite_usage
from relayd.control_plane.store.contract import Authorized, Changed, Delivery, Heard, NewSession, NodeRecord, Untaken
from relayd.control_plane.store.database import MEMORY, Database
from relayd.control_plane.store.schema import protect
from relayd.control_plane.usage_models import UsageQuery, UsageSum
from relayd.core.relay_session import RelaySession
from relayd.core.usage import UsageRecord

FAILED_KEPT_FOR = 3600.0
"""Seconds a failed session can still be read; nobody deletes what never worked."""

_KEY = "SELECT key_id, name, digest, scopes, created_at FROM keys "


class SqliteStore:
    """Implements `store.Store`, which describes the methods. One control plane a file; key commands may share it."""

    def __init__(self, path: str) -> None:
        """Opens the file, made if it is not there; `:memory:` keeps nothing.

        Raises:
            StoreUnusableError: it cannot be opened, or belongs to a newer relayd.
        """
        if path != MEMORY:
            protect(path)
        self._database = Database(path)

    async def close(self) -> None:
        """Finishes writing and lets go."""
        await self._database.close()

    async def epoch(self) -> str:
        """Names this store's history."""
        return await self._database.read(sqlite_nodes.epoch)

    async def create(self, new: NewSession) -> Changed:
        """Makes a session."""
        return await self._database.write(partial(sqlite_sessions.create, new=new))

    async def get(self, session_id: str) -> RelaySession | None:
        """The session as the API shows it."""
        return await self._database.read(partial(sqlite_sessions.get, session_id=session_id))

    async def page(self, number: int, limit: int) -> SessionPage:
        """Sessions in the order of their creation."""
        return await self._database.read(partial(sqlite_sessions.page, number=number, limit=limit))

    async def authorize(self, session_id: str, ip: str) -> Authorized:
        """Lets one more user in."""
        return await self._database.write(partial(sqlite_sessions.authorize, session_id=session_id, ip=ip))

    async def revoke(self, session_id: str, token: int) -> Changed:
        """Takes a user out."""
        return await self._database.write(partial(sqlite_sessions.revoke, session_id=session_id, token=token))

    async def delete(self, session_id: str, now: float) -> Changed:
        """Removes a session."""
        return await self._database.write(partial(sqlite_sessions.delete, session_id=session_id, now=now))

    async def heartbeat(self, node_id: str, heartbeat: Heartbeat, now: float) -> Heard:
        """Records what a relay says of itself."""
        return await self._database.write(partial(sqlite_nodes.heartbeat, node_id=node_id, beat=heartbeat, now=now))

    async def nodes(self) -> list[NodeRecord]:
        """All relays."""
        return await self._database.read(sqlite_nodes.nodes)

    async def node_sessions(
        self, node_id: str, since: int, epoch: str | None, after: str | None, limit: int
    ) -> NodeSessions | None:
        """A page of a relay's sessions, or of what changed."""
        return await self._database.read(
            partial(
                sqlite_nodes.node_sessions, node_id=node_id, since=since, known_epoch=epoch, after=after, limit=limit
            )
        )

    async def fail_untaken(self, now: float) -> list[Untaken]:
        """Fails what waits for a silent relay."""
        # Asked every few seconds and hardly ever true: only then is the writer bothered, which looks for itself.
        if not await self._database.read(partial(sqlite_nodes.untaken, now=now)):
            return []
        return await self._database.write(partial(sqlite_nodes.fail_untaken, now=now))

    async def tidy(self, now: float) -> None:
        """Forgets what nobody asks for any more."""

        def work(connection: sqlite3.Connection) -> None:
            sqlite_sessions.drop_failed(connection, now - FAILED_KEPT_FOR)
            sqlite_nodes.forget(connection, now)

        await self._database.write(work)

    async def add_usage(self, node_id: str, records: Sequence[UsageRecord]) -> int:
        """Takes records, each once."""
        return await self._database.write(partial(sqlite_usage.add, node_id=node_id, records=records))

    async def usage(self, query: UsageQuery) -> list[UsageSum]:
        """Sums by session and relay."""
        return await self._database.study(partial(sqlite_usage.sums, query=query))

    async def forget_usage(self, before: float) -> bool:
        """Forgets some of what ended before that."""
        return await self._database.write(partial(sqlite_usage.forget, before=before))

    async def add_key(self, key: StoredKey) -> None:
        """Keeps a key."""
        scopes = " ".join(sorted(key.scopes))
        await self._write(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?)", key.key_id, key.name, key.digest, scopes, key.created_at
        )

    async def key(self, key_id: str) -> StoredKey | None:
        """The key with that id."""
        rows = await self._read(_KEY + "WHERE key_id = ?", key_id)
        return _stored_key(rows[0]) if rows else None

    async def keys(self) -> list[StoredKey]:
        """All keys, oldest first."""
        return [_stored_key(row) for row in await self._read(_KEY + "ORDER BY created_at, key_id")]

    async def revoke_key(self, key_id: str) -> bool:
        """Forgets a key."""
        return await self._write("DELETE FROM keys WHERE key_id = ?", key_id) > 0

    async def webhook_secret(self) -> str:
        """The secret made with this store."""
        return str((await self._read("SELECT value FROM meta WHERE name = 'webhook_secret'"))[0][0])

    async def upcoming(self, limit: int) -> list[Delivery]:
        """The calls due first."""
        rows = await self._read(
            "SELECT webhook_id, session_id, url, body, attempts, due_at, created_at FROM outbox"
            " ORDER BY due_at LIMIT ?",
            limit,
        )
        return [Delivery(*row) for row in rows]

    async def postpone(self, webhook_id: str, due_at: float) -> None:
        """Notes a failed attempt and when the next is."""
        await self._write(
            "UPDATE outbox SET attempts = attempts + 1, due_at = ? WHERE webhook_id = ?", due_at, webhook_id
        )

    async def settle(self, webhook_id: str) -> None:
        """Takes a call out."""
        await self._write("DELETE FROM outbox WHERE webhook_id = ?", webhook_id)

    async def _read(self, statement: str, *values: object) -> list[Any]:
        return await self._database.read(lambda connection: connection.execute(statement, values).fetchall())

    async def _write(self, statement: str, *values: object) -> int:
        return await self._database.write(lambda connection: connection.execute(statement, values).rowcount)


def _stored_key(row: Any) -> StoredKey:
    key_id, name, digest, scopes, created_at = row
    return StoredKey(key_id, name, digest, frozenset(Scope(scope) for scope in scopes.split()), created_at)
