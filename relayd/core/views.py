"""What metrics, admin API and state file see of the sockets and of the fast path."""

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from mmap import mmap
from typing import NamedTuple, Protocol

from relayd.core.counters import Traffic
from relayd.core.histogram import Histogram
from relayd.core.session import Binding, Session, User
from relayd.core.verdict import Verdict
from relayd.core.wire import Port

Absorb = Callable[[Iterable[Session]], None]
"""Adds what was forwarded without the engine to its counts and to those of these sessions."""


class CountsMemory(NamedTuple):
    """Where a forwarding thread counts, so that its counts outlive the process."""

    memory: mmap
    totals_at: int
    """Datagrams and bytes by port and verdict: 8 bytes each."""
    counts_at: int
    """Of slot 0."""
    stride_bytes: int
    """From the counts of one slot to those of the next."""


class KeptCounts(Protocol):
    """Counts that outlive the process, as seen by the fast path, which adds to them what the kernel counted."""

    @property
    def go_on(self) -> bool:
        """Whether the counts were taken over from a predecessor."""

    def account(self, user: User) -> None:
        """To be called whenever something was added to the counts of a user."""

    def bring_back(self, user: User) -> None:
        """Restores what the predecessor counted for a user, and its connection id; call it before more is added."""

    def count_left(self, session_token: int, user_token: int, traffic: Traffic) -> None:
        """Adds what was counted for a user whom no session names any more."""


class BindingRecords(Protocol):
    """The records of bindings that outlive the process, as seen by what serves the sockets."""

    counts: CountsMemory

    def begin(self, binding: Binding) -> int:
        """Writes a binding down. Returns its slot, in which may be counted; 0 if there is no room."""

    def end(self, binding: Binding) -> None:
        """Removes a binding's record; what was counted in its slot has to be in its user's counts by then."""

    def slot_of(self, binding: Binding) -> int:
        """Where a binding is written down; 0 if it is not."""

    def last_seen(self, slot: int) -> float:
        """When a forwarding thread last heard a binding, in seconds; 0.0 for never."""

    def note_seen(self, slot: int, at: float) -> None:
        """Has the forwarding thread take a binding for heard at that time, in seconds, if not later."""

    def account(self, user: User) -> None:
        """To be called whenever something was added to the counts of a user."""


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


class AddressView(Protocol):
    """The addresses that relay.bind names one by one, as metrics and admin see them."""

    @property
    def up(self) -> Mapping[str, bool]:
        """Each of them → whether this host has it."""

    @property
    def away(self) -> list[str]:
        """Those that it does not have."""

    @property
    def reachable(self) -> bool:
        """Whether there is an address that the relay can be reached at."""


class InterfaceState(enum.StrEnum):
    """What becomes of datagrams on an interface of the fast path."""

    FORWARDS = "forwards"
    """The kernel forwards."""
    LOSES = "loses"
    """The sockets serve: the interface lost what the kernel sent by it."""
    AWAY = "away"
    """There is no such interface at present."""
    OFF = "off"
    """The sockets serve: the program is not on it."""


class InterfaceView(NamedTuple):
    """One interface of the fast path."""

    name: str
    state: InterfaceState
    lost: int = 0
    """Datagrams that the kernel sent by it and that it lost, since this process began."""
    lost_at: float = 0.0
    """When it was seen to lose some last, in seconds; 0.0 for never."""
    problem: str = ""
    """Why the kernel does not forward there, in a sentence; empty while it does."""
    way_out: str = ""
    """What may be done about losses and problems; empty where there is nothing to do."""


class KernelView(Protocol):
    """A fast path, as metrics and admin see it."""

    @property
    def up(self) -> bool:
        """Whether the kernel forwards on every interface of the settings."""

    @property
    def interface_views(self) -> Sequence[InterfaceView]:
        """How each interface of the settings stands."""

    @property
    def lost(self) -> int:
        """Of the datagrams counted as forwarded or answered, those that interfaces lost on their way out."""

    @property
    def bindings_served(self) -> int:
        """How many bindings it serves."""

    def by_kernel(self, port: Port, verdict: Verdict) -> int:
        """Of the engine's count, what the kernel decided."""

    def run_times(self) -> Histogram:
        """How long the program ran for some of the datagrams that it forwarded."""

    def conflicts(self, binding: Binding) -> int:
        """Datagrams with this binding's tokens that the kernel dropped because they came from other addresses."""
