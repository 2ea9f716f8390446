"""Follows a control plane: heartbeat, read what is new, apply, report; and whatever happens, keep the last good table.

heartbeat ──newer──> read ──> apply ──> heartbeat at once, so that the control plane knows
    └──nothing new──> pause, unless the control plane already held the answer back
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing, nullcontext, suppress

import structlog

from relayd.core.desired import Change, InvalidSessionsError, Snapshot
from relayd.core.lookups import Lookups
from relayd.core.shrink_guard import ShrinkGuard
from relayd.edge.source import Load, SessionTable, SourceStatus
from relayd.edge.source.control_plane.backoff import Backoff
from relayd.edge.source.control_plane.keeper import Keeper
from relayd.edge.source.control_plane.link import Link, LinkError, Report, Version
from relayd.garbage import many_new_objects

_log = structlog.get_logger()

_LEAST_PAUSE_SECONDS = 0.2
"""Between two questions, however many players are unknown: five look-ups a second at most."""


class NotBelievedError(LinkError):
    """The answer is suspicious; only time will tell."""


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
        self._link = link
        self._table = table
        self._keeper = keeper
        self._poll_interval = poll_interval
        self._load = load
        self._guard = ShrinkGuard(shrink_hold)
        self._backoff = Backoff(random.random)
        self._applied: Version | None = None
        self._ended: list[str] = []
        self._beat_at = 0.0

    def reload(self) -> None:
        """Asks at once, even a control plane that failed."""
        self._wake.set()
        self._reload.set()

    def session_ended(self, session_id: str) -> None:
        """Reports the session with the next heartbeat."""
        self._ended.append(session_id)
        self._wake.set()

    async def run(self) -> None:
        """Follows until cancelled."""
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
            tell_at_once = await self._follow(bool(asked))
        except LinkError as error:
            if self.status.problem != str(error):
                _log.warning("control plane not followed, the table stays as it was", problem=str(error))
            self.status.failed(str(error))
            doubted = isinstance(error, NotBelievedError)
            seconds = self._poll_interval if doubted else self._backoff.pause_seconds(error.retry_after_seconds)
            await _pause(seconds, self._reload)
            return
        if self.status.problem is not None:
            _log.info("control plane followed again")
        self._backoff.succeeded()
        self.status.succeeded(loop.time())
        self.lookups.answered(asked, loop.time())
        if not tell_at_once:
            took = loop.time() - began
            # A list that takes long to read is not read all the time.
            await _pause(max(self._poll_interval - took, took if self._applied is None else 0.0), self._wake)

    async def _follow(self, asking: bool) -> bool:
        """One heartbeat, and reading what is new. Returns whether the control plane should hear of it at once.

        Args:
            asking: whether somebody waits for the answer, so that it should not be held back.

        Raises:
            LinkError: it could not be asked, or its answer cannot be used or is not believed.
        """
        newest = await self._beat(0.0 if asking or self._ended or self._applied is None else self._poll_interval)
        if newest is not None and newest == self._applied:
            return False
        known_history = newest is not None and self._applied is not None and newest.epoch == self._applied.epoch
        with many_new_objects() if not known_history else nullcontext():
            await self._read(self._applied if known_history else None)
        return newest is not None

    async def _beat(self, wait_seconds: float) -> Version | None:
        ended = tuple(self._ended)
        newest = await self._link.heartbeat(Report(self._applied, self._load(), ended), wait_seconds)
        del self._ended[: len(ended)]
        self._beat_at = asyncio.get_running_loop().time()
        return newest

    async def _read(self, applied: Version | None) -> None:
        edition = self._table.edition()
        whole: Snapshot | None = None
        version: Version | None = None
        try:
            async with aclosing(self._link.read(applied)) as parts:
                async for part in parts:
                    # Very many sessions may take longer than a relay may be silent before it is taken for dead.
                    if asyncio.get_running_loop().time() - self._beat_at > self._poll_interval:
                        await self._beat(0.0)
                    version = part.version
                    if part.full:
                        whole = whole or Snapshot()
                        for spec in part.upserts:
                            whole.add(spec)
                    else:
                        await self._table.change(Change(part.upserts, part.removals))
            if whole is not None:
                await self._replace(whole)
        except InvalidSessionsError as error:
            self._applied = None
            raise LinkError(f"the control plane contradicts itself: {error}") from None
        changed = version != self._applied or edition != self._table.edition()
        self._applied = version
        if changed and self._keeper is not None:
            self._keeper.changed(version)

    async def _replace(self, whole: Snapshot) -> None:
        present = self._table.session_ids()
        missing = len(present - whole.sessions.keys())
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
