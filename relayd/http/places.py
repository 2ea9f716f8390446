"""Places for connections: how many there are in all, and for one address; and who gives up its own when none is left.

Nobody keeps others out by being connected: whoever waits for nothing but its own next word goes first, of the address
that has most connections. What is refused is one more where all are being answered.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

C = TypeVar("C")

ANYBODYS = 8
"""Connections that one address may have in any case, where there are so many."""


class Places(Generic[C]):
    """Who has a place.

    Args:
        most: places in all. One address may have half of them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._most_of_one = max(most // 2, ANYBODYS)
        self._of: dict[C, str | None] = {}
        """Whose they are: connections with their sources."""
        self._counts: dict[str | None, int] = {}
        self._idle: dict[str | None, OrderedDict[C, None]] = {}
        """Of each source, those that let others wait; the one that has for longest first."""

    def __len__(self) -> int:
        return len(self._of)

    def enter(self, connection: C, source: str | None) -> C | None:
        """Takes a new connection, which is idle until it has asked for something.

        Args:
            connection: anything that is not there yet.
            source: the network it comes from; None for one that has no bound of its own.

        Returns:
            the connection to be closed for it, which may be itself, and has left already; None where there is room.
        """
        self._of[connection] = source
        self._counts[source] = self._counts.get(source, 0) + 1
        gone = None
        if source is not None and self._counts[source] > self._most_of_one:
            gone = self._idle_of(source, connection)
        elif len(self._of) > self._most:
            crowded = max(self._idle, key=lambda one: self._counts[one], default=None)
            gone = self._idle_of(crowded, connection)
        if gone is not connection:
            self.idle(connection)
        if gone is not None:
            self.leave(gone)
        return gone

    def idle(self, connection: C) -> None:
        """It lets us wait, from now on: for its next request, for the rest of one, or to take its answer."""
        if connection in self._of:
            self._idle.setdefault(self._of[connection], OrderedDict()).setdefault(connection)

    def busy(self, connection: C) -> None:
        """It waits for us."""
        if connection in self._of:
            self._not_idle(connection, self._of[connection])

    def leave(self, connection: C) -> None:
        """It is gone, or about to be."""
        if connection not in self._of:
            return
        source = self._of.pop(connection)
        self._not_idle(connection, source)
        self._counts[source] -= 1
        if not self._counts[source]:
            del self._counts[source]

    def _idle_of(self, source: str | None, otherwise: C) -> C:
        return next(iter(self._idle.get(source, ())), otherwise)

    def _not_idle(self, connection: C, source: str | None) -> None:
        idle = self._idle.get(source)
        if idle is not None:
            idle.pop(connection, None)
            if not idle:
                del self._idle[source]
