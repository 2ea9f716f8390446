"""The sending end of one direction."""

import socket
import time
from collections.abc import Sequence

import numpy as np

from bench.load.content import FIXED_WORDS, PATTERNS, Kinds, Order, Way, length_words, marks
from bench.load.messages import HEAD_WORDS, Slots, Words

MOST_AT_ONCE = 1024
"""Datagrams that are filled in together."""


class Lane:
    """Sends datagram after datagram, by number.

    Args:
        sockets: what to send from.
        order: which flow a number belongs to.
        way: where to and how.
        kinds: how long.
        limit: how many datagrams there will be at most.
    """

    def __init__(self, sockets: Sequence[socket.socket], order: Order, way: Way, kinds: Kinds, limit: int) -> None:
        self._fds = [sock.fileno() for sock in sockets]
        self._order = order
        self._slots = Slots(MOST_AT_ONCE + PATTERNS, way.head_bytes, kinds.longest_bytes)
        kind = np.arange(self._slots.count) % PATTERNS
        self._slots.set_lengths(kinds.payload_bytes[kind] + np.uint64(way.head_bytes))
        payload = self._slots.words[:, HEAD_WORDS:]
        payload[:, FIXED_WORDS : FIXED_WORDS + kinds.patterns.shape[1]] = kinds.patterns[kind]
        # Long enough that a whole burst is one slice, wherever it begins.
        turns = np.resize(order.flows, order.period + MOST_AT_ONCE)
        self._flows = turns
        self._heads: Words = np.ascontiguousarray(way.heads).view(np.uint64)[turns]
        self._addresses: Words = np.ascontiguousarray(way.addresses).view(np.uint64)[turns]
        self._lengths = length_words(kinds)[kind] if way.length_in_head else None
        self._counting = np.arange(MOST_AT_ONCE, dtype=np.uint64)
        self.sent = 0
        self.sent_ns = np.zeros(limit, np.int64)
        """By number."""

    def send(self, count: int) -> None:
        """Sends the next ones, up to MOST_AT_ONCE."""
        first = self.sent
        last = first + count
        slot = first % PATTERNS
        turn = first % self._order.period
        flows = self._flows[turn : turn + count]
        numbers = self._counting[:count] + np.uint64(first)
        words = self._slots.words[slot : slot + count]
        words[:, :HEAD_WORDS] = self._heads[turn : turn + count]
        if self._lengths is not None:
            words[:, HEAD_WORDS - 1] |= self._lengths[slot : slot + count]
        words[:, HEAD_WORDS] = numbers
        self._slots.addresses[slot : slot + count] = self._addresses[turn : turn + count]
        now_ns = time.time_ns()
        words[:, HEAD_WORDS + 1] = now_ns
        words[:, HEAD_WORDS + 2] = marks(numbers, np.uint64(now_ns), flows)
        self.sent_ns[first:last] = now_ns
        block = self._order.block
        at = first
        while at < last:
            end = min(last, at - at % block + block)
            self._slots.send(self._fds[at // block % self._order.sockets], slot + at - first, end - at)
            at = end
        self.sent = last
