"""What is written in C, where it was compiled; and why a test is skipped where it was not."""

import importlib.util
import struct
from collections import Counter
from mmap import mmap

import pytest

from relayd.core.endpoint import Address, Local
from relayd.core.views import CountsMemory

__all__ = ["BareForwarder", "Flows", "Forwarder", "needs_native"]

_THERE = importlib.util.find_spec("relayd.forwarding.thread._forwarder") is not None

needs_native = pytest.mark.skipif(not _THERE, reason="the C part was not compiled (Debian: gcc python3-dev)")

if _THERE:
    from relayd.forwarding.thread._forwarder import Forwarder as BareForwarder
    from relayd.forwarding.thread.flows import Flows

SLOTS = 60_000
_COUNTS_AT, _STRIDE = 4096, 128
_NONE = (0, 0, 0, 0, 0, 0, 0)


def memory() -> CountsMemory:
    """Memory for totals and for the counts of SLOTS slots."""
    return CountsMemory(mmap(-1, _COUNTS_AT + SLOTS * _STRIDE), 0, _COUNTS_AT, _STRIDE)


class Forwarder:
    """The thread with memory of its own, slots given out one after another, and counts that never begin anew."""

    def __init__(self, endpoints: list[tuple[int, int]], merge: bool) -> None:
        self._memory = memory()
        self.bare = BareForwarder(endpoints, merge, *self._memory)
        self.start, self.stop, self.fileno = self.bare.start, self.bare.stop, self.bare.fileno
        self.take, self.delays = self.bare.take, self.bare.delays
        self._free: list[int] = []
        self._next = 1
        self._counts: dict[int, tuple[int, ...]] = {}
        self._totals: Counter[tuple[int, int, int]] = Counter()

    def add(
        self,
        endpoint: int,
        address: Address,
        user: int,
        session: int,
        connection_id: int,
        meter: tuple[int, int, int, int] = (0, 0, 0, 0),
        local: Local | None = None,
    ) -> int:
        slot = self._free[-1] if self._free else self._next
        self.bare.add(slot, endpoint, address, user, session, connection_id, meter, local)
        if self._free:
            self._free.pop()
        else:
            self._next += 1
        self._counts[slot] = _NONE
        return slot

    def remove(self, slot: int) -> tuple[int, ...]:
        self.bare.remove(slot)
        counts = self.counts(slot)
        del self._counts[slot]
        self._free.append(slot)
        return counts

    def counts(self, slot: int) -> tuple[int, ...]:
        """Since it was added, without what was dropped for its rate.

        Raises:
            KeyError: no binding has that slot.
        """
        before = self._counts[slot]
        now = tuple(sum(pair) for pair in zip(before, self.bare.take_counts(slot), strict=True))
        self._counts[slot] = now
        return now[:6]

    def rate_limited(self, slot: int) -> int:
        """Dropped for its rate since it was added."""
        self.counts(slot)
        return self._counts[slot][6]

    def last_seen(self, slot: int) -> float:
        if slot not in self._counts:
            raise KeyError(slot)
        seen: float = struct.unpack_from("<d", self._memory.memory, _COUNTS_AT + slot * _STRIDE)[0]
        return seen

    def totals(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Since the beginning."""
        taken = self.bare.take_totals()
        for port, of_port in enumerate(taken):
            for verdict, (datagrams, size_bytes) in enumerate(of_port):
                self._totals[port, verdict, 0] += datagrams
                self._totals[port, verdict, 1] += size_bytes
        return tuple(
            tuple((self._totals[port, verdict, 0], self._totals[port, verdict, 1]) for verdict in range(len(of_port)))
            for port, of_port in enumerate(taken)
        )
