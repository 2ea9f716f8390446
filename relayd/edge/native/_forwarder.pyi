"""The forwarding thread, in C: forwarder.c."""

from typing import Self

from relayd.core.endpoint import Address

DELAY_BOUNDS_SECONDS: tuple[float, ...]
"""Upper bounds of the buckets of `Forwarder.delays`; there is one bucket more, without a bound."""

class Forwarder:
    """Forwards between sockets for the bindings it was given, from `start` to `stop`.

    Args:
        endpoints: (file descriptor, port) of each socket. They stay the caller's, and open until `stop`.
        merge: whether several datagrams to one peer may leave in one system call as one (UDP_SEGMENT).

    Raises:
        OSError: the kernel does not give what is needed.
        ValueError: more than 64 sockets, or a port that is neither server nor client.
    """

    def __new__(cls, endpoints: list[tuple[int, int]], merge: bool) -> Self: ...
    def start(self) -> None:
        """Starts the thread.

        Raises:
            OSError: there can be no more threads.
        """

    def stop(self) -> None:
        """Ends the thread and waits for it."""

    def fileno(self) -> int:
        """A file descriptor that is readable while `take` has something to give."""

    def take(self, limit: int) -> list[tuple[int, bytes, Address]]:
        """Datagrams that the engine has to judge: number of the endpoint, bytes, source.

        Of a datagram over 1,200 bytes, only the length and the first 1,201 bytes are true. To ask again says that those
        taken before were judged and their answers sent.
        """

    def add(self, endpoint: int, address: Address, user: int, session: int, connection_id: int) -> int:
        """Forwards for a binding from now on. Returns its slot.

        Raises:
            MemoryError: and nothing changed.
            ValueError: no such endpoint, or no IP address.
        """

    def remove(self, slot: int) -> tuple[int, int, int, int, int, int]:
        """No longer forwards for it. Returns `counts`, for the last time.

        Raises:
            KeyError: no binding has that slot.
        """

    def counts(self, slot: int) -> tuple[int, int, int, int, int, int]:
        """Datagrams and bytes to the host, to the player; datagrams dropped for a full queue, for other errors.

        Raises:
            KeyError: no binding has that slot.
        """

    def last_seen(self, slot: int) -> float:
        """When it was last heard, in seconds of CLOCK_MONOTONIC.

        Raises:
            KeyError: no binding has that slot.
        """

    def totals(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Datagrams and bytes by port, then by forwarded, answered, send_queue_full, send_failed, overloaded."""

    def delays(self) -> tuple[tuple[int, ...], float]:
        """From the kernel's receive time to the send: counts by bucket, and the sum in seconds.

        Of each batch of datagrams the one that waited longest.
        """
