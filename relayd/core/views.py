"""What those who show counters need of sockets and kernel."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from relayd.core.histogram import Histogram
from relayd.core.session import Session
from relayd.core.verdict import Verdict
from relayd.core.wire import Port

Absorb = Callable[[Iterable[Session]], None]
"""Adds what was forwarded without the engine to its counts and to those of these sessions."""


class SocketMemory(NamedTuple):
    """What the kernel keeps for a socket, as it accounts for it: with its own overhead."""

    receive_queued_bytes: int
    receive_buffer_bytes: int
    send_queued_bytes: int
    send_buffer_bytes: int
    receive_overflows: int
    """Datagrams that found the receive queue full."""


class SocketView(Protocol):
    """The relay's sockets, as metrics see them."""

    def memory(self) -> list[tuple[Port, SocketMemory]]:
        """Of each socket."""

    def delays(self) -> Histogram | None:
        """How long datagrams were in the relay; None where nobody measures it."""


class KernelView(Protocol):
    """A fast path, as metrics and admin see it."""

    @property
    def up(self) -> bool:
        """Whether it is on all of its interfaces."""

    @property
    def bindings_served(self) -> int:
        """How many bindings it serves."""

    def by_kernel(self, port: Port, verdict: Verdict) -> int:
        """Of the engine's count, what the kernel decided."""
