"""Sessions that were made in this process."""

import asyncio

from relayd.core.desired import Snapshot
from relayd.edge.source import SessionTable, SourceStatus


class EmbeddedSource:
    """Keeps the table at a state that is set in this process."""

    def __init__(self, snapshot: Snapshot, table: SessionTable) -> None:
        self.status = SourceStatus()
        self._snapshot = snapshot
        self._table = table

    lookups = None

    def session_ended(self, session_id: str) -> None:
        """Nobody to tell."""

    def reload(self) -> None:
        """Nothing to look at: the state only changes in this process."""

    async def run(self) -> None:
        """Applies the state; it then stays."""
        await self._table.replace(self._snapshot)
        while True:
            self.status.succeeded(asyncio.get_running_loop().time())
            await asyncio.sleep(1.0)
