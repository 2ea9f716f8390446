"""How much somebody may send. Whole nanoseconds, so that all engines come to the same result from the same times.

A bucket is kept as the moment by which all that was let through would have been due, had it come evenly (the generic
cell rate algorithm, ITU-T I.371): one number, not a level and the time of that level. It holds one second's worth.
relayd/forwarding/thread/meter.h does the same, for the forwarding thread and for the kernel program.
"""

from typing import NamedTuple

NS_PER_SECOND = 1_000_000_000


class Rate(NamedTuple):
    """What may be sent in a second; 0 is no bound."""

    datagrams: int
    bytes: int


SILENT_SECONDS = 5.0
"""Who has not been heard for so long may not be there at all: its address may be a victim's, who never asked."""
TO_SILENT = Rate(datagrams=100, bytes=0)
"""What is sent to such a peer. A level that loads survives that, and a victim is not flooded."""


class Meter:
    """Keeps one sender, or one session, to a rate in datagrams and in bytes.

    `datagrams_due_ns` and `bytes_due_ns` are all it remembers: another engine goes on from them.
    """

    __slots__ = ("_bytes_per_second", "_datagram_ns", "bytes_due_ns", "datagrams_due_ns", "rate")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._datagram_ns = NS_PER_SECOND // rate.datagrams if rate.datagrams else 0
        self._bytes_per_second = rate.bytes
        self.datagrams_due_ns = 0
        self.bytes_due_ns = 0

    def take(self, size_bytes: int, now: float) -> bool:
        """Whether a datagram of that size may pass now, in seconds; one that may not leaves no trace."""
        now_ns = int(now * NS_PER_SECOND)
        full_ns = now_ns + NS_PER_SECOND
        datagrams_due_ns, bytes_due_ns = self.datagrams_due_ns, self.bytes_due_ns
        # No max(): a call costs more than all the rest of this.
        if self._datagram_ns:
            datagrams_due_ns = (datagrams_due_ns if datagrams_due_ns > now_ns else now_ns) + self._datagram_ns
        if self._bytes_per_second:
            cost_ns = size_bytes * NS_PER_SECOND // self._bytes_per_second
            bytes_due_ns = (bytes_due_ns if bytes_due_ns > now_ns else now_ns) + cost_ns
        if datagrams_due_ns > full_ns or bytes_due_ns > full_ns:
            return False
        self.datagrams_due_ns, self.bytes_due_ns = datagrams_due_ns, bytes_due_ns
        return True
