"""A relay as a service: what its service manager is told, and by what it judges whether the relay still works."""

import asyncio
import time
from collections.abc import Sequence

import structlog

from relayd.core.source_status import SourceStatus
from relayd.forwarding.sockets import BoundSocket
from relayd.supervision.kept_sockets import hand_over
from relayd.supervision.probes import ProbedEngine, Probes
from relayd.supervision.service_manager import BEATS_IN_TIME, ServiceManager

_BEAT_SECONDS = 1.0
_SHORT_BEAT_SECONDS = 0.05
"""During a start or a reload, whose end somebody waits for."""
EXTENSION = "EXTEND_TIMEOUT_USEC=10000000"
"""Sent again and again, so that the manager does not take a long start for a failed one."""

_log = structlog.get_logger()


class Liveness:
    """Tells the manager when there are sessions, that the sockets are read, and in words how the relay is doing.

    Args:
        manager: the manager.
        engine: the relay's engine.
        source: how the session source stands.
    """

    def __init__(self, manager: ServiceManager, engine: ProbedEngine, source: SourceStatus) -> None:
        self._manager = manager
        self._engine = engine
        self._table = engine.table
        self._source = source
        self._ready = False
        self._ending = False
        self._reload_asked_at: float | None = None
        self._said = ""
        self._unread: list[str] = []
        self._beat_seconds = min(_BEAT_SECONDS, (manager.watchdog_seconds or _BEAT_SECONDS) / BEATS_IN_TIME)

    def keep(self, sockets: Sequence[BoundSocket]) -> None:
        """Has the manager keep the sockets for the next process."""
        hand_over(self._manager, sockets)

    async def run_forever(self, sockets: Sequence[BoundSocket], started: asyncio.Event) -> None:
        """Sends all notifications, from the loop that forwards: if that hangs, none is sent, the watchdog's neither.

        Args:
            sockets: the relay's, which are to be read.
            started: set once they are, and requests are answered.
        """
        loop = asyncio.get_running_loop()
        probes = Probes(self._engine, sockets)
        beat_at = loop.time()
        try:
            while True:
                self._tell_state(started=started.is_set())
                if loop.time() >= beat_at:
                    beat_at = loop.time() + self._beat_seconds
                    self._beat(probes)
                waited_for = not self._ready or self._reload_asked_at is not None
                await asyncio.sleep(min(_SHORT_BEAT_SECONDS, self._beat_seconds) if waited_for else self._beat_seconds)
        finally:
            probes.close()

    def reloading(self) -> None:
        """The session source is to be read again."""
        if self._ready:
            self._reload_asked_at = asyncio.get_running_loop().time()
            self._manager.tell("RELOADING=1", _monotonic())

    def stopping(self, *, for_another: bool) -> None:
        """The relay stops, or is being replaced in this process: from now on only heartbeats are sent."""
        self._ending = True
        if for_another:
            self._manager.tell("RELOADING=1", _monotonic(), "STATUS=being replaced")
        else:
            self._manager.tell("STOPPING=1", "STATUS=stopping")

    def _tell_state(self, *, started: bool) -> None:
        if self._ending:
            return
        text = self._in_words()
        if text != self._said and self._manager.tell(f"STATUS={text}"):
            self._said = text
        if not self._ready and started and self._table.loaded:
            self._ready = self._manager.tell("READY=1", _monotonic())
        asked_at, looked_at = self._reload_asked_at, self._source.looked_at
        looked = asked_at is not None and looked_at is not None and looked_at >= asked_at
        if looked and self._manager.tell("READY=1", _monotonic()):
            self._reload_asked_at = None

    def _beat(self, probes: Probes) -> None:
        if not self._ready:
            # However long the session source takes: a relay that waits for it is healthy, though it reads no
            # socket meanwhile. In an upgrade the manager's watchdog keeps running.
            self._manager.tell(EXTENSION)
            self._tell_watchdog()
            return
        unread = [f"{endpoint.port.label} {endpoint.number}" for endpoint in probes.unread()]
        if unread != self._unread:
            _log.warning("sockets are not read", sockets=unread)
            self._unread = unread
        if not unread:
            self._tell_watchdog()

    def _tell_watchdog(self) -> None:
        if self._manager.watchdog_seconds is not None:
            self._manager.tell("WATCHDOG=1")

    def _in_words(self) -> str:
        problem = self._source.problem
        if not self._table.loaded:
            words = [f"no sessions yet: {problem or 'still reading them'}"]
        else:
            words = [f"{len(self._table.sessions)} sessions, {self._table.active_sessions} of them playing"]
            if self._engine.draining:
                words.append("new ones are refused")
            if problem:
                words.append(f"the session source is not followed: {problem}")
        # One line, whatever the problem's own text is.
        return " ".join("; ".join(words).split())


def _monotonic() -> str:
    return f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"
