"""The relay's sockets on the event loop: datagrams in, through the engine, datagrams out."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress

from relayd.core.engine import Engine
from relayd.core.events import UNBOUND, Event, EventKind
from relayd.core.followers import Phase
from relayd.core.session import Session
from relayd.core.views import BindingRecords, SocketMemory
from relayd.core.wire import Port
from relayd.forwarding.asked import ANCILLARY_BYTES, asked
from relayd.forwarding.judge import Judge
from relayd.forwarding.sockets import BoundSocket, memory_of

_LARGEST_DATAGRAM_BYTES = 1 << 16
_AT_ONCE = 32
"""About 1 ms before the other socket, and the rest of the loop, gets its turn."""


class RecordKeeper:
    """Has the records of bindings follow the table, where no forwarder does."""

    def __init__(self, records: BindingRecords) -> None:
        self._records = records

    def event(self, event: Event) -> None:
        """Follows a change of the table."""
        binding = event.binding
        if binding is None:
            return
        if event.kind is not EventKind.USER_BOUND:
            self._records.end(binding)
        if event.kind not in UNBOUND:
            self._records.begin(binding)


class UdpPorts:
    """All sockets of the relay, read by the event loop."""

    def __init__(self, engine: Engine, sockets: Sequence[BoundSocket], records: BindingRecords) -> None:
        self._judge = Judge(engine, sockets, records)
        self._bound = sockets
        self._loop: asyncio.AbstractEventLoop | None = None
        engine.table.followers.subscribe(Phase.THREADS, RecordKeeper(records))

    async def start(self) -> None:
        """Begins to take datagrams in."""
        self._loop = loop = asyncio.get_running_loop()
        for one in self._bound:
            loop.add_reader(one.socket, _Reader(loop, one, self._judge).take)

    def stop(self) -> None:
        """Closes the sockets."""
        for one in self._bound:
            if self._loop is not None:
                self._loop.remove_reader(one.socket)
            one.socket.close()

    def absorb(self, sessions: Iterable[Session]) -> None:
        """Nothing to add: the engine counts every datagram."""

    def memory(self) -> list[tuple[Port, SocketMemory]]:
        """What the kernel keeps for each socket."""
        return memory_of(self._bound)

    def delays(self) -> None:
        """Not known: nobody asks the kernel when it took a datagram in."""


class _Reader:
    """Takes in what arrives at one socket. A transport of the loop would not tell which address was asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bound: BoundSocket, judge: Judge) -> None:
        self._now = loop.time
        self._endpoint, self._socket = bound
        self._receive = judge.receive
        self._buffer = memoryview(bytearray(_LARGEST_DATAGRAM_BYTES))

    def take(self) -> None:
        """To be called when there is something. Leaves the rest of a burst for the next turn of the loop."""
        # Nothing more, or an ICMP error about an earlier datagram: that shows by the peer's silence.
        with suppress(OSError):
            for _ in range(_AT_ONCE):
                size, ancillary, _, source = self._socket.recvmsg_into((self._buffer,), ANCILLARY_BYTES)
                self._receive(self._endpoint, bytes(self._buffer[:size]), source, self._now(), asked(ancillary))
