"""The one owner of the table: all changes of sessions go through it, one after another."""

import asyncio
from collections.abc import Collection, KeysView

import structlog

from relayd.core.desired import Change, Snapshot
from relayd.core.session import Session
from relayd.core.table import Table
from relayd.event_loop.garbage import many_new_objects
from relayd.event_loop.pacing import in_slices

_EXPIRY_BUDGET = 200
"""Table entries looked at before datagrams get their turn: under 1 ms."""
_REMOVALS_AT_ONCE = 200
_EXPIRY_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0

_log = structlog.get_logger()


class TableOwner:
    """Applies desired state and expiry to a table, in slices that never hold the loop for long."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._lock = asyncio.Lock()
        self.loaded = asyncio.Event()
        """Set once there was a desired state."""

    def session_ids(self) -> KeysView[str]:
        """The sessions in the table now."""
        return self._table.sessions.keys()

    def sessions(self) -> list[Session]:
        """The sessions themselves, not to be changed."""
        return list(self._table.sessions.values())

    def edition(self) -> int:
        """A number that is another one whenever sessions or users were added or removed."""
        return self._table.edition

    async def replace(self, snapshot: Snapshot) -> None:
        """Makes the table hold these sessions and no others; takes the snapshot apart."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            before, edition, loaded = len(self._table.sessions), self._table.edition, self._table.loaded
            with many_new_objects():
                async for _ in in_slices(self._table.reconcile(snapshot, loop.time())):
                    pass
            self.loaded.set()
            if self._table.edition != edition or not loaded:
                _log.info(
                    "sessions applied", sessions=len(self._table.sessions), before=before, users=self._table.users
                )

    async def change(self, change: Change) -> None:
        """Removes some sessions, then adds and updates others; those all at once, so not too many.

        Raises:
            InvalidSessionsError: what is to be added contradicts the table; nothing of it was.
        """
        async with self._lock:
            for first in range(0, len(change.removals), _REMOVALS_AT_ONCE):
                removals = change.removals[first : first + _REMOVALS_AT_ONCE]
                self._table.change(Change(removals=removals), asyncio.get_running_loop().time())
                await asyncio.sleep(0)
            self._table.change(Change(upserts=change.upserts), asyncio.get_running_loop().time())

    async def leave_relays(self, relays: Collection[tuple[str, int]]) -> None:
        """Lets nobody in from these addresses and ports of the fleet's relays, and unbinds who is bound there."""
        async with self._lock:
            async for _ in in_slices(self._table.leave_relays(relays, asyncio.get_running_loop().time())):
                pass
        _log.info("addresses of the fleet's other relays are refused", sockets=len(relays))

    async def expire_forever(self) -> None:
        """Ends what is due, whenever it is due."""
        loop = asyncio.get_running_loop()
        while True:
            if self._table.expire(loop.time(), _EXPIRY_BUDGET):
                await asyncio.sleep(0)
                continue
            deadline = self._table.next_deadline()
            pause = _LONGEST_PAUSE_SECONDS if deadline is None else deadline - loop.time()
            await asyncio.sleep(min(max(pause, _EXPIRY_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS))
