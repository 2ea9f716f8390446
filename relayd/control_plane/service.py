"""The control plane without HTTP: what can be asked of it, and what it does on its own."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from relayd.control_plane.background import keep_going
from relayd.control_plane.clock import steady_time
from relayd.control_plane.errors import InvalidRequestError, NodeTakenError, NotFoundError, StoreUnavailableError
from relayd.control_plane.fleet.placement import Unplaceable, centre_of, place
from relayd.control_plane.fleet.returns import Returns
from relayd.control_plane.fleet.roster import Fleet
from relayd.control_plane.heartbeat_log import LOGGED_ONE_BY_ONE, HeartbeatLog
from relayd.control_plane.listing import Bookmarks
from relayd.control_plane.models import CreateRequest, SessionPage
from relayd.control_plane.node_models import Heartbeat, NodeRevision, NodeSessions
from relayd.control_plane.store.contract import SILENT_NODE_KEPT_FOR, Authorized, NewSession, NodeRecord, Store, Totals
from relayd.control_plane.usage_models import UsageQuery, UsageReport, UsageSum
from relayd.control_plane.webhooks.delivery import Webhooks
from relayd.control_plane.webhooks.guard import refused_literal
from relayd.core.relay_session import RelaySession

TIDY_INTERVAL = 60.0
"""Seconds."""

UNTAKEN_INTERVAL = 3.0
"""Seconds between two looks for sessions that wait for a silent relay."""

RELAYS_BACK_WITHIN = 45.0
"""Seconds after a start until every relay has been heard that is alive. They ask again at least every 30 s, and were
silent as long as this program was away, so that until then silence says nothing about them.
"""

LONGEST_WAIT = 30.0
"""Seconds a heartbeat may be held."""

log = structlog.get_logger()


class ControlPlane:
    """Sessions, the relays they are placed on, and the webhooks that announce them. One per store.

    A session whose relay dies stays with it: the relay's sockets may well outlive its heartbeats, and a session moved
    to another relay would end the game for certain. It goes when it is deleted, or when the relay reports it ended.
    One whose relay dies before it took it fails after 30 s: nobody can be playing there.
    A session that failed stays failed; creating another is up to the caller.

    Every method may raise StoreUnavailableError.
    """

    def __init__(
        self,
        store: Store,
        webhooks: Webhooks,
        *,
        clock: Callable[[], float] = steady_time,
        usage_kept_seconds: float = 0.0,
    ) -> None:
        """The clock gives Unix time, and is never set: heartbeats are remembered over a restart.

        Usage kept for 0 s is kept for ever.
        """
        self._usage_kept_seconds = usage_kept_seconds
        self._store = store
        self._webhooks = webhooks
        self._clock = clock
        self._fleet = Fleet(())
        self._epoch = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._started_at = 0.0
        self._stopping = False
        self._bookmarks = Bookmarks()
        self._returns = Returns()
        self._heartbeat_log = HeartbeatLog()

    async def start(self) -> None:
        """Continues from the state of the store, and begins to deliver webhooks. To be called before anything else."""
        await self._store.go_by(self._clock())
        await self._store.begin()
        self._epoch = await self._store.epoch()
        self._fleet = Fleet(await self._store.nodes())
        self._started_at = time.monotonic()
        self._tasks = [
            asyncio.create_task(keep_going(name, work), name=name)
            for name, work in (
                ("webhooks", self._webhooks.run),
                ("tidying", self._tidy),
                ("failing untaken sessions", self._fail_untaken),
            )
        ]

    def release(self) -> None:
        """Answers all held heartbeats at once, and holds none from now on; for a server about to stop."""
        self._stopping = True
        self._fleet.wake_all()

    async def stop(self) -> None:
        """Ends what it does on its own and closes the store. Undelivered webhooks are kept there."""
        self.release()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.close()

    async def create(self, request: CreateRequest) -> RelaySession:
        """A new session, placed on a relay, or with status Error and the reason.

        Raises:
            InvalidRequestError: the webhook's address may not be called.
        """
        if request.webhook_url is not None and not self._webhooks.allow_private:
            refused = refused_literal(request.webhook_url)
            if refused:
                raise InvalidRequestError(refused)
        now = self._clock()
        users = len(request.users)
        chosen = place(self._fleet.candidates(now), users, request.filters, centre_of(request.users))
        node_id = error = None
        if isinstance(chosen, Unplaceable):
            error = chosen.reason
        else:
            # Before the store is asked: the next request may be placed while it works.
            node_id = chosen.node_id
            self._fleet.assign(node_id, users, now)
        changed = await self._store.create(NewSession(request.users, node_id, error, request.webhook_url, now))
        if node_id is None:
            self._webhooks.wake()
            log.warning("session not placed", session=changed.session.session_id, reason=error)
        else:
            self._fleet.changed(node_id, changed.revision)
            log.info("session created", session=changed.session.session_id, relay=node_id, users=users)
        return changed.session

    async def get(self, session_id: str) -> RelaySession:
        """The session.

        Raises:
            NotFoundError: there is none of that id.
        """
        session = await self._store.get(session_id)
        if session is None:
            raise NotFoundError(f"There is no session {session_id[:40]!r}; it may have been deleted or have ended.")
        return session

    async def list(self, page: int, limit: int, reader: str) -> SessionPage:
        """A page of all sessions, oldest first; empty beyond the last one. Pages are counted from 1.

        Whoever reads them one after the other misses none that is there all the while: see `listing`.
        """
        found = await self._store.page(page, limit, self._bookmarks.before(reader, limit, page, time.monotonic()))
        if found.more and found.last is not None:
            self._bookmarks.ended(reader, limit, page, found.last, time.monotonic())
        return found

    async def delete(self, session_id: str) -> None:
        """Ends a session.

        Raises:
            NotFoundError: there is none of that id.
        """
        try:
            changed = await self._store.delete(session_id, self._clock())
        except NotFoundError:
            self._returns.missed(session_id)
            raise
        self._tell(changed.node_id, changed.revision)
        log.info("session deleted", session=session_id)

    async def authorize(self, session_id: str, ip: str) -> Authorized:
        """Lets one more user in; its token is valid once the relay has heard of it.

        Raises:
            NotFoundError: there is no such session.
            ConflictError: the address is in already, or the session failed.
        """
        authorized = await self._store.authorize(session_id, ip)
        self._tell(authorized.changed.node_id, authorized.changed.revision)
        log.info("user authorized", session=session_id)
        return authorized

    async def revoke(self, session_id: str, token: int) -> RelaySession:
        """Takes a user out.

        Raises:
            NotFoundError: there is no such session, or no such user in it.
        """
        try:
            changed = await self._store.revoke(session_id, token)
        except NotFoundError:
            self._returns.missed(session_id, token)
            raise
        self._tell(changed.node_id, changed.revision)
        log.info("user revoked", session=session_id)
        return changed.session

    async def heartbeat(self, node_id: str, heartbeat: Heartbeat, wait: float = 0) -> NodeRevision:
        """A relay says how it fares, and is told the newest revision of its sessions.

        If it has that already, the answer is held for up to `wait` seconds, until there is something newer. A relay
        counts as silent 10 seconds after its heartbeat came in, held or not: one that waits longer gets no new session.

        Raises:
            NodeTakenError: another relay is heard under that name; once it is silent, this one takes over.
        """
        now = self._clock()
        asked, unwanted = self._returns.allowed(node_id, heartbeat)
        try:
            heard = await self._store.heartbeat(node_id, asked, now, unwanted)
        except NodeTakenError as error:
            self._heartbeat_log.refused(str(error), node_id, heartbeat.address)
            raise
        if node_id not in self._fleet:
            log.info("relay joined", relay=node_id, ip=heartbeat.ip, capacity=heartbeat.capacity)
        self._fleet.heard(NodeRecord(node_id, heartbeat.model_copy(update={"handed_back": []}), now, heard.revision))
        self._returns.returned(node_id, len(heard.taken_back))
        self._heartbeat_log.heard(node_id, heard)
        if heard.ready:
            self._webhooks.wake()
        if (heartbeat.epoch, heartbeat.revision) == (self._epoch, heard.revision):
            await self._wait_for_news(node_id, heard.revision, min(wait, LONGEST_WAIT))
        fleet = None if heartbeat.fleet is None else self._fleet.sockets()
        if fleet is not None and fleet.digest == heartbeat.fleet:
            fleet = None
        return NodeRevision(
            epoch=self._epoch,
            revision=self._fleet.revision(node_id),
            fleet=fleet,
            went_back=heard.went_back or None,
            taken_back=list(heard.taken_back) if heartbeat.handed_back else None,
        )

    def newest(self, node_id: str) -> NodeRevision:
        """The newest revision of a relay's sessions.

        Raises:
            NotFoundError: the relay is unknown.
        """
        if node_id not in self._fleet:
            raise NotFoundError(f"There is no relay {node_id[:40]!r}; send its heartbeat first.")
        return NodeRevision(epoch=self._epoch, revision=self._fleet.revision(node_id))

    async def has_keys(self) -> bool:
        """Whether anybody could call the API with a stored key."""
        return bool(await self._store.keys())

    @property
    def stopping(self) -> bool:
        """Whether it is about to stop."""
        return self._stopping

    @property
    def deliveries(self) -> Mapping[str, int]:
        """Calls of webhooks since the start, by what became of them."""
        return self._webhooks.outcomes

    def relays_by_status(self) -> Mapping[str, int]:
        """How many relays are online, draining and silent."""
        return self._fleet.by_status(self._clock())

    async def totals(self) -> Totals:
        """How much there is."""
        return await self._store.totals()

    async def take_usage(self, node_id: str, report: UsageReport) -> None:
        """A relay reports usage. Each record counts once, however often it comes."""
        await self._store.add_usage(node_id, [record.record() for record in report.records])

    async def usage(self, query: UsageQuery) -> Sequence[UsageSum]:
        """What sessions used, by session and relay.

        Raises:
            InvalidRequestError: it takes too long to find out.
        """
        return await self._store.usage(query)

    async def node_sessions(
        self, node_id: str, *, since: int = 0, epoch: str | None = None, after: str | None = None, limit: int = 200
    ) -> NodeSessions:
        """A page of a relay's sessions: what changed after `since` of `epoch`, or all if that cannot be told.

        Raises:
            NotFoundError: the relay is unknown.
        """
        answer = await self._store.node_sessions(node_id, since=since, epoch=epoch, after=after, limit=limit)
        if answer is None:
            raise NotFoundError(f"There is no relay {node_id[:40]!r}; send its heartbeat first.")
        return answer

    def _tell(self, node_id: str | None, revision: int) -> None:
        if node_id is not None:
            self._fleet.changed(node_id, revision)

    async def _wait_for_news(self, node_id: str, known: int, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._stopping and self._fleet.revision(node_id) == known:
                    await self._fleet.news(node_id)

    async def _tidy(self) -> None:
        await asyncio.sleep(TIDY_INTERVAL)
        now = self._clock()
        try:
            await self._store.tidy(now)
            if self._usage_kept_seconds:
                while await self._store.forget_usage(now - self._usage_kept_seconds):
                    """A part each time, so that no write waits for all of it."""
            self._fleet.forget_silent(now - SILENT_NODE_KEPT_FOR, await self._store.nodes())
        except StoreUnavailableError as error:
            log.error("tidying failed", reason=str(error))

    async def _fail_untaken(self) -> None:
        await asyncio.sleep(UNTAKEN_INTERVAL)
        if time.monotonic() - self._started_at < RELAYS_BACK_WITHIN:
            return
        try:
            failed = await self._store.fail_untaken(self._clock())
        except StoreUnavailableError as error:
            log.error("tidying failed", reason=str(error))
            return
        if failed:
            self._webhooks.wake()
        for node_id, _, revision in failed:
            self._fleet.changed(node_id, revision)
        for node_id, session_ids, _ in failed:
            log.warning("sessions not taken", relay=node_id, sessions=list(session_ids[:LOGGED_ONE_BY_ONE]))
