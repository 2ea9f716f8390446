"""The relay's sockets on the event loop: datagrams in, through the engine, datagrams out."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from relayd.core.endpoint import Endpoint
from relayd.core.engine import Engine
from relayd.core.events import UNBOUND, Event, EventKind
from relayd.core.followers import Phase
from relayd.core.session import Session
from relayd.core.views import BindingRecords, SocketMemory
from relayd.core.wire import Port
from relayd.forwarding.judge import Judge
from relayd.forwarding.sockets import BoundSocket, memory_of


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
    """All sockets of the relay, on uvloop's own datagram transports."""

    def __init__(self, engine: Engine, sockets: Sequence[BoundSocket], records: BindingRecords) -> None:
        self._judge = Judge(engine, sockets, records)
        self._bound = sockets
        self._transports: list[asyncio.DatagramTransport] = []
        engine.table.followers.subscribe(Phase.THREADS, RecordKeeper(records))

    async def start(self) -> None:
        """Begins to take datagrams in."""
        loop = asyncio.get_running_loop()
        for endpoint, sock in self._bound:
            receiver = partial(_Receiver, loop, endpoint, self._judge)
            transport, _ = await loop.create_datagram_endpoint(receiver, sock=sock)
            self._transports.append(transport)

    def stop(self) -> None:
        """Closes the sockets."""
        for transport in self._transports:
            transport.close()

    def absorb(self, sessions: Iterable[Session]) -> None:
        """Nothing to add: the engine counts every datagram."""

    def memory(self) -> list[tuple[Port, SocketMemory]]:
        """What the kernel keeps for each socket."""
        return memory_of(self._bound)

    def delays(self) -> None:
        """Not known: uvloop does not tell when the kernel took a datagram in."""


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint, judge: Judge) -> None:
        self._now = loop.time
        self._endpoint = endpoint
        self._receive = judge.receive

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._receive(self._endpoint, data, addr, self._now())

    def error_received(self, exc: Exception) -> None:
        """An ICMP error about an earlier datagram: what is undeliverable shows by the peer's silence."""
