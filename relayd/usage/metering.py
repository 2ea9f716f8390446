"""Usage records of a relay: made of its table's counts, kept in a journal, sent."""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import structlog

from relayd.core.counters import Traffic
from relayd.core.events import Event, EventKind
from relayd.core.session import Session
from relayd.core.usage import Counts, Reason, UsageTaker
from relayd.core.views import Absorb
from relayd.event_loop.pacing import in_slices
from relayd.settings import Settings
from relayd.state.layout import NO_SPAN
from relayd.state.records import Accounts
from relayd.usage.journal import Journal
from relayd.usage.records_file import UsageFile
from relayd.usage.sender import Sender

T = TypeVar("T")

_TICK_SECONDS = 1.0
_AT_ONCE = 20
"""Sessions: under 1 ms."""
_LAST_RECORDS_SECONDS = 0.2
"""At the end of the process: some 10,000."""
_REASONS = {EventKind.SESSION_REMOVED: Reason.REMOVED, EventKind.SESSION_IDLE: Reason.IDLE}
_UNKNOWN_SESSION = "unknown"
"""Session of counts that outlived the journal, which alone knew whose they are."""

_log = structlog.get_logger()


class _Ending(NamedTuple):
    """A span that ended and is not recorded yet; its accounts stay in the state until it is."""

    span: str
    session: Session | None
    """None if it was gone after a restart."""
    counts: Counts
    """Without what may still be counted, which goes into the session's `revoked_traffic`."""
    ended_at: float
    reason: Reason
    accounts: list[Accounts]


class Metering:
    """Follows the table, and records what its sessions forward.

    Args:
        settings: the whole configuration.
        kept: whether records outlive the process.
        absorb: brings the counts of sessions up to date.
        settled: whether nothing more can be counted for what ended in a session.
        taker: who gets the records; None: a file in the state directory.
        wall_clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        kept: bool,
        absorb: Absorb,
        settled: Callable[[Session], bool],
        taker: UsageTaker | None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        directory = settings.state.directory
        self._interval_seconds = settings.usage.interval
        self._wall_clock = wall_clock
        self._journal = Journal(directory if kept else None, _new_name)
        self.ledger = self._journal.ledger
        self.sender = Sender(self._journal, taker, UsageFile(directory, settings.relay.id))
        self._absorb = absorb
        self._settled = settled
        self._spans: dict[Session, str] = {}
        self._unclaimed = set(self.ledger.spans)
        """Spans of the predecessor that no session has continued so far."""
        self._goes_on = False
        """Whether all counts of the predecessor are restored or discarded: before that no span of it may be ended."""
        self._endings: dict[str, _Ending] = {}
        """By span."""
        self._recorded: list[tuple[int, list[Accounts]]] = []
        """Numbers of records, and the accounts to be freed once the disk has them."""
        self._lost_told = 0

    # What the state asks and tells ----------------------------------------------------------------------------

    def of(self, session: Session) -> bytes:
        """See `Spans.of`."""
        span = self._spans.get(session)
        if span is None:
            span = self._begin(session, _new_name())
        return bytes.fromhex(span)

    def _begin(self, session: Session, span: str) -> str:
        self._spans[session] = span
        self.ledger.start(span, session.session_id, self._wall_clock())
        # Soon: after a crash nothing else knows whose counts these are. Where writing failed the next tick tries again,
        # not each session that begins.
        if self._journal.problem is None:
            self._journal.write_soon()
        return span

    def goes_on(self, session: Session, span: bytes, counts: Traffic) -> bool:
        """See `Spans.goes_on`."""
        name = span.hex()
        if span == NO_SPAN:
            # Counted while usage was not recorded, or before that under another span: it must not be counted twice.
            return False
        if name in self._endings or name in self._journal.stopped:
            # Its last record is made, or will be.
            return False
        if session in self._spans:
            return self._spans[session] == name
        recorded = self.ledger.spans.get(name)
        if recorded is None:
            self._begin(session, name)
        elif recorded.session_id == session.session_id and Counts.of(counts).at_least(recorded.total):
            self._unclaimed.discard(name)
            self._spans[session] = name
        return session in self._spans

    def ended(self, event: Event, accounts: Accounts) -> None:
        """See `Spans.ended`."""
        session = event.session
        span = self._spans.pop(session, None)
        if span is None:
            accounts.free()
            return
        counts = Traffic()
        for user in session.users.values():
            if user.traffic is not None:
                counts.add(user.traffic)
        self._endings[span] = _Ending(
            span=span,
            session=session,
            counts=Counts.of(counts),
            ended_at=self._wall_clock(),
            reason=_REASONS[event.kind],
            accounts=[accounts],
        )

    def gone(self, span: bytes, counts: Traffic, accounts: Accounts) -> None:
        """See `Spans.gone`."""
        if span == NO_SPAN or span.hex() in self._journal.stopped:
            accounts.free()
            return
        name, now = span.hex(), self._wall_clock()
        if name not in self.ledger.spans:
            self.ledger.start(name, _UNKNOWN_SESSION, now)
        self._unclaimed.discard(name)
        ended = self._endings.get(name)
        if ended is None:
            self._endings[name] = _Ending(
                span=name,
                session=None,
                counts=Counts.of(counts),
                ended_at=now,
                reason=Reason.RESTART,
                accounts=[accounts],
            )
        else:
            # Its session was there for a moment, but not all of those who had been in it.
            more = ended.counts.plus(Counts.of(counts))
            self._endings[name] = ended._replace(counts=more, accounts=[*ended.accounts, accounts])

    def going_on(self) -> Iterator[None]:
        """All of the predecessor is restored or discarded by now: ends the spans that no session continues.

        Pauses after each.
        """
        self._goes_on = True
        while self._unclaimed:
            name = self._unclaimed.pop()
            self._journal.stopped.add(name)
            self.ledger.stop(name, self.ledger.spans[name].total, self._wall_clock(), Reason.RESTART)
            yield

    # What is done again and again -----------------------------------------------------------------------------

    async def run_forever(self) -> None:
        """Records, and sends what is recorded, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.sender.run_forever())
            group.create_task(self._journal.write_forever())
            group.create_task(self._record_forever())

    async def _record_forever(self) -> None:
        loop = asyncio.get_running_loop()
        recorded_at = loop.time()
        while True:
            await asyncio.sleep(min(_TICK_SECONDS, self._interval_seconds))
            over = loop.time() - recorded_at >= self._interval_seconds
            if over:
                recorded_at = loop.time()
            try:
                await self.tick(over)
            except Exception:  # noqa: BLE001 - whatever happens here, the games go on
                _log.exception("recording usage failed")

    async def tick(self, interval_is_over: bool) -> None:
        """Records what ended and, at the end of an interval, what goes on; brings all of it to the disk."""
        if self._goes_on:
            await self._record_endings()
        # What cannot be written now is in a later record.
        if await self._journal.write_all() and interval_is_over and self._goes_on:
            await self._record_interval()
        self._complain_of_lost(interval_is_over)
        await self._journal.sync()
        await self._free_recorded()
        self.sender.more.set()

    def _complain_of_lost(self, interval_is_over: bool) -> None:
        lost = self.ledger.lost - self._lost_told
        if lost and interval_is_over:
            self._lost_told += lost
            _log.error("too many usage records wait: the oldest are given up", given_up=lost)

    async def _record_interval(self) -> None:
        now = self._wall_clock()
        async for some in in_slices(_some_at_once(list(self._spans))):
            self._absorb(some)
            for session in some:
                # It may have ended while others were looked at.
                span = self._spans.get(session)
                if span is not None:
                    self.ledger.interim(span, Counts.of(session.traffic()), now)
            if not await self._journal.write():
                return

    async def _record_endings(self) -> None:
        endings, self._endings = self._endings, {}
        async for some in in_slices(_some_at_once(list(endings.values()))):
            for ending in some:
                if ending.session is None or self._settled(ending.session):
                    self._record_ending(ending)
                else:
                    self._endings[ending.span] = ending

    def _record_ending(self, ending: _Ending) -> None:
        counts = ending.counts
        if ending.session is not None and ending.session.revoked_traffic is not None:
            counts = counts.plus(Counts.of(ending.session.revoked_traffic))
        # After a crash of the host the accounts may be older than what is recorded.
        counts = Counts(*map(max, counts, self.ledger.spans[ending.span].total))
        record = self.ledger.stop(ending.span, counts, ending.ended_at, ending.reason)
        self._recorded.append((record.sequence, ending.accounts))

    async def _free_recorded(self) -> None:
        recorded, self._recorded = self._recorded, []
        async for sequence, accounts in in_slices(recorded):
            if sequence <= self._journal.durable:
                for some in accounts:
                    some.free()
            else:
                self._recorded.append((sequence, accounts))

    async def close(self) -> None:
        """Records how far the sessions are, whose counts are up to date; the next process sends it.

        Takes as long as the disk does.
        """
        if self._goes_on:
            self._record_last()
            await self._journal.write_all()
        self._journal.close()

    def abandon(self) -> None:
        """Leaves the journal as it was found."""
        self._journal.close()

    def _record_last(self) -> None:
        now = self._wall_clock()
        for ending in self._endings.values():
            if ending.session is None or self._settled(ending.session):
                self._record_ending(ending)
        # Most of all for the next process not to depend on the counts in the state: those of another version it cannot
        # read. So it is not worth a pause of the games.
        until = time.perf_counter() + _LAST_RECORDS_SECONDS
        for session, span in self._spans.items():
            if time.perf_counter() > until:
                break
            self.ledger.interim(span, Counts.of(session.traffic()), now)


def _some_at_once(all_of_them: list[T]) -> Iterator[list[T]]:
    for first in range(0, len(all_of_them), _AT_ONCE):
        yield all_of_them[first : first + _AT_ONCE]


def _new_name() -> str:
    return secrets.token_hex(16)
