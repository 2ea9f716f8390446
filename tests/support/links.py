"""A control plane and a session table in memory, for whatever follows the one on behalf of the other."""

import asyncio
from collections.abc import AsyncGenerator, Collection, KeysView

from relayd.core.desired import Change, SessionSpec, Snapshot, UserSpec
from relayd.core.session import Session, User
from relayd.core.usage import UsageBatch
from relayd.session_source.control_plane.link import FleetSockets, News, Reading, Report, Version


def session(number: int, users: int = 2) -> SessionSpec:
    """A session that differs from that of any other number."""
    return SessionSpec(f"game-{number}", 100 + number, tuple(UserSpec(user, None) for user in range(1, users + 1)))


class FakeLink:
    """A control plane that does as it is told; see `Link`.

    Args:
        page_sessions: how many sessions a part of a reading has.
        revisions: whether it takes heartbeats and numbers its states; else it only lists.
    """

    def __init__(self, page_sessions: int = 2, revisions: bool = True) -> None:
        self.epoch = "first"
        self.reports: list[Report] = []
        self.waits: list[float] = []
        """How long each heartbeat said that its answer may be held back."""
        self.beats_at: list[float] = []
        self.readings: list[Version | None] = []
        """What was applied when it was read."""
        self.batches: list[UsageBatch] = []
        self.fleet: FleetSockets | None = None
        """What it tells of other relays, to whom that is new."""
        self.went_back_from: Version | None = None
        """What it lost: relays that have applied it are told so."""
        self.takes_back = True
        """Whether it takes what relays hand back then."""
        self.return_failure: Exception | None = None
        """What handing back ends with."""
        self.failure: Exception | None = None
        """What every question ends with."""
        self.usage_failure: Exception | None = None
        self.hangs = False
        self.holds_back = True
        """Whether an answer comes only when there is something new, or the time is over."""
        self.closed = False
        self.between_parts_seconds = 0.0
        self._sessions: dict[str, SessionSpec] = {}
        self._changes: list[str] = []
        """Id of what changed, by revision."""
        self._page_sessions = page_sessions
        self._revisions = revisions
        self._news = asyncio.Event()

    # What the test does -------------------------------------------------------------------------------------

    @property
    def version(self) -> Version:
        return Version(self.epoch, len(self._changes))

    def put(self, *specs: SessionSpec) -> None:
        for spec in specs:
            self._sessions[spec.session_id] = spec
            self._changed(spec.session_id)

    def remove(self, *session_ids: str) -> None:
        for session_id in session_ids:
            del self._sessions[session_id]
            self._changed(session_id)

    def begin_anew(self, epoch: str) -> None:
        """As one that lost its data, with what it has now."""
        self.epoch, self._changes = epoch, list(self._sessions)
        self._wake()

    def go_back(self, *kept: SessionSpec) -> None:
        """As one that was restored from a backup, which has these sessions."""
        self.went_back_from = self.version
        self._sessions = {spec.session_id: spec for spec in kept}
        self.begin_anew(f"{self.epoch}, restored")

    def _changed(self, session_id: str) -> None:
        self._changes.append(session_id)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _answering(self) -> None:
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.failure is not None:
            raise self.failure

    # Link ---------------------------------------------------------------------------------------------------

    async def heartbeat(self, report: Report, wait_seconds: float) -> News | None:
        self.reports.append(report)
        self.waits.append(wait_seconds)
        self.beats_at.append(asyncio.get_running_loop().time())
        await self._answering()
        if not self._revisions:
            return None
        if report.applied == self.version and self.holds_back:
            news = self._news
            try:
                async with asyncio.timeout(wait_seconds):
                    await news.wait()
            except TimeoutError:
                pass
            await self._answering()
        taken: tuple[str, ...] = ()
        if report.handed_back:
            if self.return_failure is not None:
                raise self.return_failure
            if self.takes_back:
                self.put(*report.handed_back)
                taken = tuple(spec.session_id for spec in report.handed_back)
        known = self.fleet is None or self.fleet.digest == report.fleet
        went_back = report.applied is not None and report.applied == self.went_back_from
        return News(self.version, None if known else self.fleet, went_back, taken)

    async def read(self, applied: Version | None) -> AsyncGenerator[Reading, None]:
        self.readings.append(applied)
        await self._answering()
        full = not self._revisions or applied is None or applied.epoch != self.epoch
        changed = list(self._sessions) if full or applied is None else self._changes[applied.revision :]
        upserts = [self._sessions[one] for one in dict.fromkeys(changed) if one in self._sessions]
        removals = () if full else tuple(one for one in dict.fromkeys(changed) if one not in self._sessions)
        version = self.version if self._revisions else None
        for first in range(0, max(len(upserts), 1), self._page_sessions):
            yield Reading(version, full, tuple(upserts[first : first + self._page_sessions]), removals)
            removals = ()
            await asyncio.sleep(self.between_parts_seconds)

    async def take_usage(self, batch: UsageBatch) -> None:
        if self.usage_failure is not None:
            raise self.usage_failure
        self.batches.append(batch)

    async def close(self) -> None:
        self.closed = True


class FakeSessionTable:
    """Sessions as they were told; see `SessionTable`."""

    def __init__(self) -> None:
        self.specs: dict[str, SessionSpec] = {}
        self.loaded = False
        self.replaced = 0
        self.changes: list[Change] = []
        self.fleets: list[Collection[tuple[str, int]]] = []
        """Sockets of other relays, each time it was told of them."""
        self._sessions: dict[str, Session] = {}
        self._edition = 0

    def session_ids(self) -> KeysView[str]:
        return self._sessions.keys()

    def sessions(self) -> list[Session]:
        return list(self._sessions.values())

    def edition(self) -> int:
        return self._edition

    async def replace(self, snapshot: Snapshot) -> None:
        self.loaded = True
        self.replaced += 1
        self._become(dict(snapshot.sessions))

    async def change(self, change: Change) -> None:
        wanted = {key: spec for key, spec in self.specs.items() if key not in change.removals}
        wanted |= {spec.session_id: spec for spec in change.upserts}
        Snapshot.of(wanted.values())
        self.changes.append(change)
        self._become(wanted)

    async def leave_relays(self, relays: Collection[tuple[str, int]]) -> None:
        self.fleets.append(relays)

    def _become(self, wanted: dict[str, SessionSpec]) -> None:
        if wanted == self.specs:
            return
        self.specs = wanted
        self._edition += 1
        self._sessions = {spec.session_id: _row(spec) for spec in wanted.values()}


def _row(spec: SessionSpec) -> Session:
    row = Session(spec.session_id, spec.token, 0.0)
    row.users = {user.token: User(row, user.token, user.ip_address) for user in spec.users}
    return row
