"""The forwarding thread, in C: forwarder.c."""

from mmap import mmap
from typing import Self

from relayd.core.endpoint import Address, Local

LAYOUT: int
"""Digest of relayd/core/declaration/thread.py as it was when this was compiled."""

class Forwarder:
    """Forwards between sockets for the bindings it was given, from `start` to `stop`.

    Args:
        endpoints: (file descriptor, port) of each socket. They stay the caller's, and open until `stop`. One that has
            several addresses says which was asked: see relayd/forwarding/asked.py.
        merge: whether several datagrams to one peer may leave in one system call as one (UDP_SEGMENT).
        memory: writable, and kept as long as this object lives: all is counted in it.
        totals_at: where the totals begin: ``u64[port][verdict][datagrams, bytes]``.
        counts_at: where the counts of slot 0 begin: ``f64 last_seen_seconds, u64[7]``, as `take_counts` has them.
        stride: bytes from the counts of one slot to those of the next; there are as many slots as the memory has room.

    Raises:
        OSError: the kernel does not give what is needed.
        ValueError: more than 64 sockets, a port that is neither server nor client, or places outside of the memory.
    """

    def __new__(
        cls,
        endpoints: list[tuple[int, int]],
        merge: bool,
        memory: mmap,
        totals_at: int,
        counts_at: int,
        stride: int,
    ) -> Self: ...
    def start(self) -> None:
        """Starts the thread.

        Raises:
            OSError: there can be no more threads.
            RuntimeError: it runs already.
        """

    def stop(self) -> None:
        """Ends the thread and waits for it. It can be started again."""

    def fileno(self) -> int:
        """A file descriptor that is readable while `take` or `take_asked` has something to give."""

    def take(self, limit: int) -> list[tuple[int, bytes, Address, Local | None]]:
        """Datagrams that the engine has to judge: number of the endpoint, bytes, source, and the address of this host
        that it was sent to, if the socket says so.

        Of a datagram over 1,200 bytes, only the length and the first 1,201 bytes are true. To ask again says that those
        taken before were judged and their answers sent.
        """

    def add(
        self,
        slot: int,
        endpoint: int,
        address: Address,
        user: int,
        session: int,
        connection_id: int,
        meter: tuple[int, int, int, int] = (0, 0, 0, 0),
        local: Local | None = None,
    ) -> None:
        """Forwards for a binding from now on, and counts in that slot what it does.

        Args:
            slot: a free one.
            endpoint: where it is bound.
            address: its peer's.
            user: its user's token.
            session: its session's token.
            connection_id: of a player; else 0.
            meter: what stands in the `Meter` of relayd/core/meter.py: datagrams and bytes a second, 0 for no bound;
                datagrams_due_ns, bytes_due_ns.
            local: the address of this host that it is sent to from, until a datagram of its own says another one.

        Raises:
            MemoryError: and nothing changed.
            OverflowError: a number that does not fit into 32 bits.
            ValueError: no such endpoint, no IP address, no UDP port, not a free slot; or its user, its connection id or
                its session's host is there already; or `local` is no address.
        """

    def remove(self, slot: int) -> tuple[int, int, Local | None]:
        """No longer forwards for the binding in that slot; what was counted stays there.

        Returns:
            What stands in its meter by now, datagrams_due_ns and bytes_due_ns; and the address of this host that its
            peer sends to.

        Raises:
            KeyError: no binding has that slot.
        """

    def take_counts(self, slot: int) -> tuple[int, int, int, int, int, int, int]:
        """Datagrams and bytes to the host, to the player; datagrams dropped for a full queue, for other errors of the
        send, for its rate.

        They begin at zero again.

        Raises:
            KeyError: there is no such slot.
        """

    def take_asked(self) -> list[int]:
        """Slots of receivers that it has not heard for a while, and will call silent soon if nobody else hears them.

        Each is named once a second; some may be free by now.
        """

    def pings(self, slot: int) -> tuple[int, int, int, int]:
        """The PINGs that were answered to the binding in that slot, or to the last one that had it.

        Returns:
            last_ns, heard, missed and jitter_sixteenths_ns of relayd/core/pings.py.

        Raises:
            KeyError: no binding had that slot.
        """

    def take_totals(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Datagrams and bytes by port, then by verdict. They begin at zero again."""

    def delays(self) -> tuple[tuple[int, ...], float]:
        """From the kernel's receive time to the send: counts by bucket of DELAY_BOUNDS_NS, and the sum in seconds.

        Of each batch of datagrams the one that waited longest.
        """
