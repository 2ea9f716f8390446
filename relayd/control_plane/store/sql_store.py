"""The store over a database: what `contract.py` asks for, by the functions of `…_queries.py` and `usage_sums.py`."""

from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection

from relayd.control_plane.errors import InvalidRequestError, TooSlowError
from relayd.control_plane.keys import StoredKey
from relayd.control_plane.models import SessionPage
from relayd.control_plane.node_models import Heartbeat, NodeSessions
from relayd.control_plane.store import (
    clock_queries,
    key_queries,
    node_queries,
    outbox_queries,
    session_queries,
    start_queries,
    usage_sums,
)
from relayd.control_plane.store.contract import (
    Authorized,
    Changed,
    Delivery,
    Heard,
    NewSession,
    NodeRecord,
    Totals,
    Untaken,
    Unwanted,
)
from relayd.control_plane.store.database import Database
from relayd.control_plane.usage_models import UsageQuery, UsageSum
from relayd.core.relay_session import RelaySession
from relayd.core.usage import UsageRecord

FAILED_KEPT_FOR = 3600.0
"""Seconds a failed session can still be read; nobody deletes what never worked."""


class SqlStore:
    """Implements `contract.Store`, which describes the methods."""

    def __init__(self, database: Database, *, token_bits: int) -> None:
        """Closes the database with itself. Tokens are drawn from 1 to 2^token_bits - 1."""
        self._database = database
        self._token_bits = token_bits

    async def close(self) -> None:
        """Finishes writing and closes the store."""
        await self._database.close()

    async def go_by(self, now: float) -> None:
        """Leaves no time in the future."""
        await self._database.write(partial(clock_queries.go_by, now=now))

    async def totals(self) -> Totals:
        """How much there is."""

        def work(connection: Connection) -> Totals:
            return Totals(session_queries.total(connection), outbox_queries.total(connection))

        return await self._database.read(work)

    async def begin(self) -> None:
        """Notes a start."""
        await self._database.write(start_queries.begin)

    async def epoch(self) -> str:
        """Names this store's history."""
        return await self._database.read(start_queries.epoch)

    async def create(self, new: NewSession) -> Changed:
        """Makes a session."""
        return await self._database.write(partial(session_queries.create, new=new, token_bits=self._token_bits))

    async def get(self, session_id: str) -> RelaySession | None:
        """The session as the API shows it."""
        return await self._database.read(partial(session_queries.get, session_id=session_id))

    async def page(self, number: int, limit: int, after: int | None = None) -> SessionPage:
        """Sessions in the order of their creation."""
        return await self._database.read(partial(session_queries.page, number=number, limit=limit, after=after))

    async def authorize(self, session_id: str, ip: str) -> Authorized:
        """Lets one more user in."""
        return await self._database.write(
            partial(session_queries.authorize, session_id=session_id, ip=ip, token_bits=self._token_bits)
        )

    async def revoke(self, session_id: str, token: int) -> Changed:
        """Takes a user out."""
        return await self._database.write(partial(session_queries.revoke, session_id=session_id, token=token))

    async def delete(self, session_id: str, now: float) -> Changed:
        """Removes a session."""
        return await self._database.write(partial(session_queries.delete_session, session_id=session_id, now=now))

    async def heartbeat(self, node_id: str, heartbeat: Heartbeat, now: float, unwanted: Unwanted = ()) -> Heard:
        """Records what a relay says of itself."""
        return await self._database.write(
            partial(node_queries.heartbeat, node_id=node_id, beat=heartbeat, now=now, unwanted=unwanted)
        )

    async def nodes(self) -> list[NodeRecord]:
        """All relays."""
        return await self._database.read(node_queries.nodes)

    async def node_sessions(
        self, node_id: str, *, since: int, epoch: str | None, after: str | None, limit: int
    ) -> NodeSessions | None:
        """A page of a relay's sessions, or of what changed."""
        return await self._database.read(
            partial(
                node_queries.node_sessions, node_id=node_id, since=since, known_epoch=epoch, after=after, limit=limit
            )
        )

    async def fail_untaken(self, now: float) -> list[Untaken]:
        """Fails what waits for a silent relay."""
        # Called every few seconds, and hardly ever with a result: only then does the writer repeat the query.
        if not await self._database.read(partial(node_queries.untaken, now=now)):
            return []
        return await self._database.write(partial(node_queries.fail_untaken, now=now))

    async def tidy(self, now: float) -> None:
        """Removes what no caller can ask for any more."""

        def work(connection: Connection) -> None:
            session_queries.drop_failed(connection, now - FAILED_KEPT_FOR)
            node_queries.forget(connection, now)

        await self._database.write(work)

    async def add_usage(self, node_id: str, records: Sequence[UsageRecord]) -> int:
        """Takes records, each once."""
        return await self._database.write(partial(usage_sums.add, node_id=node_id, records=records))

    async def usage(self, query: UsageQuery) -> list[UsageSum]:
        """Sums by session and relay."""
        try:
            return await self._database.read_slowly(partial(usage_sums.sums, query=query))
        except TooSlowError:
            raise InvalidRequestError("That takes too long: ask for one session, or for fewer sums a page.") from None

    async def forget_usage(self, before: float) -> bool:
        """Forgets some of what ended before that."""
        return await self._database.write(partial(usage_sums.forget, before=before))

    async def add_key(self, key: StoredKey) -> None:
        """Keeps a key."""
        await self._database.write(partial(key_queries.add, key=key))

    async def key(self, key_id: str) -> StoredKey | None:
        """The key with that id."""
        return await self._database.read(partial(key_queries.get, key_id=key_id))

    async def keys(self) -> list[StoredKey]:
        """All keys, oldest first."""
        return await self._database.read(key_queries.keys)

    async def revoke_key(self, key_id: str) -> bool:
        """Forgets a key."""
        return await self._database.write(partial(key_queries.revoke, key_id=key_id))

    async def webhook_secret(self) -> str:
        """The secret made with this store."""
        return await self._database.read(outbox_queries.secret)

    async def upcoming(self, limit: int, busy_hosts: Sequence[str] = ()) -> list[Delivery]:
        """The calls due first, without those to these hosts."""
        return await self._database.read(partial(outbox_queries.upcoming, limit=limit, busy_hosts=busy_hosts))

    async def postpone(self, webhook_id: str, due_at: float) -> None:
        """Notes a failed attempt and when the next is."""
        await self._database.write(partial(outbox_queries.postpone, webhook_id=webhook_id, due_at=due_at))

    async def settle(self, webhook_id: str) -> None:
        """Takes a call out."""
        await self._database.write(partial(outbox_queries.settle, webhook_id=webhook_id))
