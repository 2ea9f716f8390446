"""Keeps the last good table on disk, beside following the control plane: to write very many sessions takes seconds."""

import asyncio

import structlog

from relayd.core.desired import Snapshot
from relayd.session_source import SessionTable, spec_of
from relayd.session_source.control_plane.last_good import LastGood, LastGoodError
from relayd.session_source.control_plane.link import Version

_log = structlog.get_logger()

_GATHER_SECONDS = 2.0
"""How long changes are gathered before the table is written."""
_RETRY_SECONDS = 30.0
_LAST_SAVE_SECONDS = 5.0
_SHARE_OF_TIME = 20
"""The pause after writing is this many times as long as writing took: at most five percent of a core."""


class Keeper:
    """Writes the table after it has changed, and once more when it is cancelled.

    What is written may be newer than the state it is written under, never older: to apply the changes since then once
    more changes nothing.
    """

    def __init__(self, last_good: LastGood, table: SessionTable) -> None:
        self._last_good = last_good
        self._table = table
        self._version: Version | None = None
        self._changed = asyncio.Event()
        self._problem: str | None = None

    async def load(self) -> tuple[Snapshot, Version | None] | None:
        """What was kept by an earlier process; None, and a warning where there is something unusable."""
        try:
            return await self._last_good.load()
        except LastGoodError as error:
            _log.warning("last good sessions not used", problem=str(error))
            return None

    def changed(self, version: Version | None) -> None:
        """The table was brought to that state."""
        self._version = version
        self._changed.set()

    async def keep(self) -> None:
        """Writes whenever there is something to write, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._changed.wait()
                await asyncio.sleep(_GATHER_SECONDS)
                began = loop.time()
                await self._save()
                pause_seconds = (loop.time() - began) * _SHARE_OF_TIME
                await asyncio.sleep(max(pause_seconds, _RETRY_SECONDS if self._problem else 0.0))
        finally:
            if self._changed.is_set():
                await self._save_in_time()

    async def _save_in_time(self) -> None:
        """As `_save`, at the end of the process, which a disk that hangs must not hold up."""
        try:
            async with asyncio.timeout(_LAST_SAVE_SECONDS):
                await self._save()
        except TimeoutError:
            _log.warning("last good sessions not kept", problem=f"not written within {_LAST_SAVE_SECONDS:g} s")

    async def _save(self) -> None:
        self._changed.clear()
        try:
            await self._last_good.save(map(spec_of, self._table.sessions()), self._version)
            self._problem = None
        except LastGoodError as error:
            if str(error) != self._problem:
                _log.warning("last good sessions not kept", problem=str(error))
            self._problem = str(error)
            self._changed.set()
        except asyncio.CancelledError:
            self._changed.set()
            raise
