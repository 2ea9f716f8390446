"""Draining: no new games, those that run play on, and the control plane is told to place no more here."""

import asyncio

import structlog

from relayd.admin.answers import DrainStatus
from relayd.core.engine import Engine
from relayd.core.source_status import SourceStatus

_LOOK_SECONDS = 0.2

_log = structlog.get_logger()


class Drain:
    """Begins it, undoes it, and says how far it is. Both may be asked for any number of times."""

    def __init__(self, engine: Engine, source: SourceStatus) -> None:
        self.awaited = False
        """Whether somebody waits in `until_done`."""
        self._engine = engine
        self._source = source

    def begin(self) -> DrainStatus:
        """Refuses new games from now on."""
        if not self._engine.draining:
            self._engine.draining = True
            _log.info("draining: new sessions are refused", active_sessions=self._engine.table.active_sessions)
        return self.status()

    def undo(self) -> DrainStatus:
        """Takes new games again."""
        if self._engine.draining:
            self._engine.draining = self.awaited = False
            _log.info("no longer draining")
        return self.status()

    def status(self) -> DrainStatus:
        """How far it is."""
        engine, table, source = self._engine, self._engine.table, self._source
        told = source.told_draining if source.problem is None else None
        return DrainStatus(
            draining=engine.draining,
            active_sessions=table.active_sessions,
            bound_users=sum(table.bound),
            control_plane_told=None if told is None else told == engine.draining,
        )

    async def until_done(self, limit_seconds: float) -> bool:
        """Begins, and waits until nobody plays any more, but no longer than that; 0 waits without a limit.

        Returns:
            False when the drain was undone meanwhile.
        """
        loop = asyncio.get_running_loop()
        self.begin()
        self.awaited = True
        began = loop.time()
        while self.awaited:
            status = self.status()
            if status.done:
                _log.info("drained", after_seconds=round(loop.time() - began, 1))
                return True
            if limit_seconds and loop.time() - began >= limit_seconds:
                _log.warning(
                    "not drained within drain.limit_seconds",
                    active_sessions=status.active_sessions,
                    bound_users=status.bound_users,
                )
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False
