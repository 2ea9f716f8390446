"""The receiving end of one direction: takes in, checks and counts."""

import socket
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.load.content import FIXED_WORDS, PATTERNS, Kinds, Order, Way, flows_of, length_words, marks
from bench.load.messages import HEAD_WORDS, Slots, Words
from bench.load.tally import Tally

_AT_ONCE = 256
_CHECKED_TOGETHER = 768
_KINDS = np.uint64(PATTERNS)
_KEY_BITS = np.uint64(40)


class Receiver:
    """Checks every datagram against what it should be.

    Args:
        sockets: where flow f is to arrive at ``sockets[f % len(sockets)]``.
        order: which flow a number belongs to.
        way: what stands before the payloads.
        kinds: lengths and patterns.
        limit: how many datagrams there will be at most.
        stamped: whether the sockets note when a datagram arrived.
    """

    def __init__(
        self, sockets: Sequence[socket.socket], order: Order, way: Way, kinds: Kinds, limit: int, stamped: bool
    ) -> None:
        self._fds = [sock.fileno() for sock in sockets]
        self._sockets = np.uint64(len(sockets))
        self._order = order
        self._kinds = kinds
        self._lengths = kinds.payload_bytes + np.uint64(way.arriving_head_bytes)
        self._heads: Words = np.ascontiguousarray(way.arriving_heads).view(np.uint64)
        self._length_words = length_words(kinds) if way.length_in_arriving_head else None
        self._slots = Slots(_CHECKED_TOGETHER + _AT_ONCE, way.arriving_head_bytes, kinds.longest_bytes + 8, stamped)
        self._stamped = stamped
        self._at = np.zeros(self._slots.count, np.uint64)
        self._filled = 0
        self._last = np.zeros(len(self._heads), np.uint64)
        self._began_ns = np.uint64(time.time_ns())
        self._place = np.zeros(limit, np.int32)
        self._ever = 0
        self._intact = 0
        self._reordered = 0
        self.arrived_ns = np.zeros(limit, np.int64)
        """By number; 0 for what did not arrive."""

    @property
    def arrived(self) -> int:
        """Datagrams taken in so far, whatever they are like."""
        return self._ever

    def take(self, socket_number: int) -> None:
        """Takes in all that is waiting at a socket."""
        fd = self._fds[socket_number]
        while got := self._slots.receive(fd, self._filled, _AT_ONCE):
            self._at[self._filled : self._filled + got] = socket_number
            self._filled += got
            self._ever += got
            if self._filled >= _CHECKED_TOGETHER:
                self.check()
            if got < _AT_ONCE:
                return

    def check(self) -> None:
        """Checks and counts what was taken in since the last time."""
        count, self._filled = self._filled, 0
        if not count:
            return
        words = self._slots.words[:count]
        payload = words[:, HEAD_WORDS:]
        numbers, sent_ns, marked = payload[:, 0], payload[:, 1], payload[:, 2]
        flows = flows_of(marked)
        good = marked == marks(numbers, sent_ns, flows)
        late = good & (sent_ns < self._began_ns)
        good &= (numbers < np.uint64(len(self.arrived_ns))) & (flows < np.uint64(len(self._heads)))
        if not good.all():
            # So that what follows can use them as indexes.
            numbers = np.where(good, numbers, np.uint64(0))
            flows = np.where(good, flows, np.uint64(0))
        kinds = numbers % _KINDS
        good &= flows == self._order.flows[numbers % np.uint64(self._order.period)]
        good &= self._at[:count] == flows % self._sockets
        good &= self._slots.lengths(count) == self._lengths[kinds]
        good &= (words[:, :HEAD_WORDS] == self._expected_heads(flows, kinds)).all(axis=1)
        good &= self._as_sent(payload, kinds)
        now_ns = self._slots.arrival_ns(count).astype(np.int64) if self._stamped else time.time_ns()
        self._slots.reuse(count)
        good &= ~late
        self._ever -= int(np.count_nonzero(late))
        self._count(numbers[good], flows[good], now_ns if isinstance(now_ns, int) else now_ns[good])

    def _expected_heads(self, flows: Words, kinds: Words) -> Words:
        heads = self._heads[flows]
        if self._length_words is not None:
            heads[:, -1] |= self._length_words[kinds]
        return heads

    def _as_sent(self, payload: Words, kinds: Words) -> NDArray[np.bool_]:
        width = -(-int(self._kinds.payload_bytes[kinds].max()) // 8) - FIXED_WORDS
        difference = payload[:, FIXED_WORDS : FIXED_WORDS + width] ^ self._kinds.patterns[kinds, :width]
        # What stands behind a datagram is left from an earlier, longer one.
        difference &= self._kinds.masks[kinds, :width]
        return np.logical_not(difference.any(axis=1))

    def _count(self, numbers: Words, flows: Words, now_ns: int | NDArray[np.int64]) -> None:
        self._intact += len(numbers)
        fresh = self._first_copies(numbers)
        numbers, flows = numbers[fresh], flows[fresh]
        self.arrived_ns[numbers] = now_ns if isinstance(now_ns, int) else now_ns[fresh]
        # All of a flow behind one another, in the order of arrival. As every flow's keys are above those of the flow
        # before, one running maximum serves all.
        turn = np.argsort(flows, kind="stable")
        flows = flows[turn]
        base = flows << _KEY_BITS
        keys = base | numbers[turn]
        highest = np.maximum.accumulate(np.maximum(keys, base | self._last[flows]))
        self._reordered += int(np.count_nonzero(keys < highest))
        np.maximum.at(self._last, flows, highest - base)

    def _first_copies(self, numbers: Words) -> NDArray[np.bool_]:
        """Which of them are the first with their number."""
        places = np.arange(len(numbers), dtype=np.int32)
        # Where an index comes up again, the value given last stays: by going backwards that is the first copy's.
        self._place[numbers[::-1]] = places[::-1]
        fresh: NDArray[np.bool_] = (self._place[numbers] == places) & (self.arrived_ns[numbers] == 0)
        return fresh

    def tally(self, sent: int) -> Tally:
        """What became of what was sent."""
        self.check()
        delivered = int(np.count_nonzero(self.arrived_ns))
        corrupted = self._ever - self._intact
        return Tally(
            sent=sent,
            delivered=delivered,
            lost=max(0, sent - delivered - corrupted),
            reordered=self._reordered,
            duplicated=self._intact - delivered,
            corrupted=corrupted,
        )
