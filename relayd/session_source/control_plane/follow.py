"""Follows a control plane: heartbeat, read what is new, apply, report; and whatever happens, keep the last good table.

heartbeat ──newer──> read ──> apply ──> heartbeat at once, so that the control plane knows
    ├──it went back──> read, hand back what is played in and missing, read again, apply
    └──nothing new──> pause, unless the control plane already held the answer back
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing, suppress
from itertools import islice

import structlog

from relayd.core.desired import Change, InvalidSessionsError, SessionSpec, Snapshot
from relayd.core.lookups import Lookups
from relayd.core.shrink_guard import ShrinkGuard
from relayd.core.source_status import Load, SourceStatus
from relayd.event_loop.garbage import many_new_objects
from relayd.session_source import SessionTable, count_missing
from relayd.session_source.control_plane.backoff import Backoff
from relayd.session_source.control_plane.keeper import Keeper
from relayd.session_source.control_plane.link import NO_FLEET, Link, LinkError, News, Report, Version
from relayd.session_source.control_plane.returns import Patience, batches, lost_in_play
from relayd.session_source.control_plane.usage_link import UsageOverLink

_log = structlog.get_logger()

_MOST_BETWEEN_BEATS_SECONDS = 5.0
"""However long poll_interval is: a control plane considers a relay dead after 10 s of silence."""
_MOST_ENDED_AT_ONCE = 500
_MOST_ENDED_KEPT = 100_000
_LEAST_PAUSE_SECONDS = 0.2
"""Between two questions, however many players are unknown: five look-ups a second at most."""


class NotBelievedError(LinkError):
    """The answer lacks suspiciously many sessions; it is accepted only if it stays so."""


class ControlPlaneSource:
    """Keeps the table in step with a control plane.

    Args:
        link: the way to it.
        table: what is kept in step.
        keeper: keeps the table on disk; None for nobody.
        poll_interval: seconds between heartbeats.
        shrink_hold: see `SourceSettings.shrink_hold`.
        load: gives what the relay has to do at the moment.
    """

    def __init__(
        self,
        *,
        link: Link,
        table: SessionTable,
        keeper: Keeper | None,
        poll_interval: float,
        shrink_hold: float,
        load: Callable[[], Load],
    ) -> None:
        self.status = SourceStatus()
        self._wake = asyncio.Event()
        self._reload = asyncio.Event()
        self.lookups = Lookups(self._wake.set)
        self.usage = UsageOverLink(link)
        self._link = link
        self._table = table
        self._keeper = keeper
        self._poll_interval = poll_interval
        self._beat_seconds = min(poll_interval, _MOST_BETWEEN_BEATS_SECONDS)
        self._load = load
        self._guard = ShrinkGuard(shrink_hold)
        self._patience = Patience()
        self._backoff = Backoff(random.random)
        self._applied: Version | None = None
        self._heartbeats = False
        """Whether the control plane takes them, and has revisions."""
        self._fleet = NO_FLEET
        """Names the sockets of the fleet's relays that the table knows."""
        self._ended: OrderedDict[str, None] = OrderedDict()
        """Sessions that ended here and are still to be reported."""
        self._beat_at = 0.0
        self._asked_at = 0.0

    def reload(self) -> None:
        """Asks at once, even a control plane that failed."""
        self._wake.set()
        self._reload.set()

    def session_ended(self, session_id: str) -> None:
        """Reports the session with the next heartbeat."""
        self._ended[session_id] = None
        if len(self._ended) > _MOST_ENDED_KEPT:
            self._ended.popitem(last=False)
        self._kept()
        self._wake.set()

    async def run(self) -> None:
        """Follows until cancelled."""
        self.status.started(asyncio.get_running_loop().time())
        await self._start_from_last_good()
        keeping = asyncio.create_task(self._keeper.keep()) if self._keeper else None
        try:
            while True:
                await self._attempt()
        finally:
            if keeping is not None:
                keeping.cancel()
                await asyncio.wait([keeping])
            await self._link.close()

    async def _attempt(self) -> None:
        """One heartbeat, what follows from it, and the pause after it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._wake.clear()
        self._reload.clear()
        asked = self.lookups.asked()
        try:
            wait_seconds = self._wait_seconds(bool(asked), began)
            news = await self._follow(wait_seconds)
        except Exception as error:  # noqa: BLE001 - whatever happens here, the games go on
            if not isinstance(error, LinkError):
                _log.exception("following the control plane failed")
                error = LinkError(f"a defect ({type(error).__name__}), see the log")
            if self.status.problem != str(error):
                _log.warning("control plane not followed, the table stays as it was", problem=str(error))
            self.status.failed(str(error))
            self.status.looked(began)
            doubted = isinstance(error, NotBelievedError)
            seconds = self._poll_interval if doubted else self._backoff.pause_seconds(error.retry_after_seconds)
            await _pause(seconds, self._reload)
            return
        if self.status.problem is not None:
            _log.info("control plane followed again")
        self._backoff.succeeded()
        self.status.succeeded(loop.time())
        self.status.looked(began)
        self.lookups.answered(asked, loop.time())
        took = loop.time() - began
        if not self._heartbeats:
            # A list that takes long to read is not read all the time.
            await _pause(max(self._poll_interval - took, took), self._wake)
        elif not news:
            # A control plane that does not hold answers back is asked no more often than one that does.
            await _pause(max(0.0, wait_seconds - took), self._wake)

    def _wait_seconds(self, asking: bool, now: float) -> float:
        """How long the next answer may be held back.

        Args:
            asking: whether somebody unknown waits for it.
            now: on the event loop's clock.
        """
        if not self._heartbeats or self._ended:
            return 0.0
        if not asking:
            return self._beat_seconds
        wait_seconds = max(0.0, self._asked_at + _LEAST_PAUSE_SECONDS - now)
        self._asked_at = now
        return wait_seconds

    async def _follow(self, wait_seconds: float) -> bool:
        """One heartbeat, and reading what is new. Returns whether there was anything.

        Args:
            wait_seconds: how long the answer may be held back until there is something.

        Raises:
            LinkError: it could not be asked, or its answer cannot be used or is refused.
        """
        news = await self._beat(wait_seconds)
        hands_back = self._patience.is_left(news is not None and news.went_back, asyncio.get_running_loop().time())
        if news is not None and news.version == self._applied:
            return False
        self._heartbeats = news is not None
        if news is None or (self._applied is not None and news.version.epoch == self._applied.epoch):
            await self._read(self._applied, hands_back=hands_back)
        else:
            with many_new_objects():
                await self._read(self._applied, hands_back=hands_back)
        return True

    async def _beat(self, wait_seconds: float, handed_back: tuple[SessionSpec, ...] = ()) -> News | None:
        ended = tuple(islice(self._ended, _MOST_ENDED_AT_ONCE))
        load = self._load()
        report = Report(self._applied, load, ended, self._fleet, handed_back)
        news = await self._link.heartbeat(report, wait_seconds)
        self._beat_at = asyncio.get_running_loop().time()
        if news is None:
            self.status.told_draining = None
            return None
        self.status.told_draining = load.draining
        for session_id in ended:
            self._ended.pop(session_id, None)
        if news.fleet is not None:
            await self._table.leave_relays(news.fleet.sockets)
            self._fleet = news.fleet.digest
        return news

    async def _read(self, applied: Version | None, *, hands_back: bool) -> None:
        edition = self._table.edition()
        try:
            version, whole = await self._read_parts(applied)
            if whole is not None and hands_back:
                version, whole = await self._hand_back(version, whole)
            if whole is not None:
                await self._replace(whole)
        except InvalidSessionsError as error:
            self._applied = None
            raise LinkError(f"the control plane contradicts itself: {error}") from None
        changed = version != self._applied or edition != self._table.edition()
        self._applied = version
        if changed:
            self._kept()

    async def _read_parts(self, applied: Version | None) -> tuple[Version | None, Snapshot | None]:
        """Which state was read, and all of it where that is what was told: what only changed is in the table by now."""
        whole: Snapshot | None = None
        version: Version | None = None
        async with aclosing(self._link.read(applied)) as parts:
            async for part in parts:
                # Very many sessions may take longer than a relay may be silent before it is taken for dead.
                if self._heartbeats and asyncio.get_running_loop().time() - self._beat_at > self._beat_seconds:
                    await self._beat(0.0)
                version = part.version
                if part.full:
                    whole = whole or Snapshot()
                    for spec in part.upserts:
                        whole.add(spec)
                else:
                    await self._table.change(Change(part.upserts, part.removals))
        return version, whole

    async def _hand_back(
        self, version: Version | None, whole: Snapshot | None
    ) -> tuple[Version | None, Snapshot | None]:
        """Hands back what somebody plays in and `whole` lacks, each session once. Returns what is told after that.

        Raises:
            LinkError: it could not be handed back, so that nothing is known of it; or what is told cannot be read.
        """
        handed: set[str] = set()
        taken = 0
        while whole is not None:
            lost = await lost_in_play(self._table.sessions(), whole)
            left = [spec for spec in lost if spec.session_id not in handed]
            if not left:
                break
            for batch in batches(left):
                news = await self._beat(0.0, batch)
                taken += len(news.taken_back) if news is not None else 0
                handed |= {spec.session_id for spec in batch}
            version, whole = await self._read_parts(None)
        if handed:
            _log.warning("sessions handed back, which the control plane lacked", sessions=len(handed), taken=taken)
        return version, whole

    def _kept(self) -> None:
        """Has the table kept; without its state as long as there is something to report.

        A process that starts from it then reads everything, finds again what was not reported, and can end it again.
        """
        if self._keeper is not None:
            self._keeper.changed(self._applied if self._heartbeats and not self._ended else None)

    async def _replace(self, whole: Snapshot) -> None:
        present = list(self._table.session_ids())
        missing = await count_missing(present, whole)
        left = self._guard.seconds_left(len(present), missing, asyncio.get_running_loop().time())
        if left > 0:
            raise NotBelievedError(
                f"the control plane suddenly lacks {missing} of {len(present)} sessions; kept unless it stays so"
            )
        await self._table.replace(whole)

    async def _start_from_last_good(self) -> None:
        if self._keeper is None:
            return
        found = await self._keeper.load()
        if found is not None:
            snapshot, self._applied = found
            _log.info("serving the last good sessions until the control plane answers", sessions=len(snapshot))
            await self._table.replace(snapshot)


async def _pause(seconds: float, wake: asyncio.Event) -> None:
    """Sleeps, unless there is something to ask before that."""
    await asyncio.sleep(min(seconds, _LEAST_PAUSE_SECONDS))
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds - _LEAST_PAUSE_SECONDS)):
            await wake.wait()
