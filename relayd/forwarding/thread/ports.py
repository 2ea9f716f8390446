"""The relay's sockets in the hands of the forwarding thread; what it passes up goes through the engine."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from relayd.core.declaration import thread
from relayd.core.declaration.thread import DELAY_BOUNDS_NS
from relayd.core.engine import Engine
from relayd.core.histogram import Histogram
from relayd.core.session import Session
from relayd.core.verdict import Verdict
from relayd.core.views import BindingRecords, SocketMemory
from relayd.core.wire import Port
from relayd.forwarding.judge import Judge
from relayd.forwarding.sockets import BoundSocket, memory_of
from relayd.forwarding.thread._forwarder import LAYOUT, Forwarder
from relayd.forwarding.thread.flows import Flows

_DELAY_BOUNDS_SECONDS = tuple(bound_ns / 1e9 for bound_ns in DELAY_BOUNDS_NS.values)
_AT_ONCE = 64
_TURNS = 4
"""Up to 256 datagrams, about 3 ms, before the rest of the loop gets its turn."""


class NativePorts:
    """All sockets of the relay.

    Args:
        engine: judges what the thread does not forward by itself; the thread follows its table.
        sockets: the sockets.
        records: where the thread counts.
        merge: see `Forwarder`.

    Raises:
        OSError: the kernel does not give what the thread needs.
        ValueError: the thread was compiled for another version of relayd.
    """

    def __init__(self, engine: Engine, sockets: Sequence[BoundSocket], records: BindingRecords, *, merge: bool) -> None:
        if thread.LAYOUT.digest != LAYOUT:
            raise ValueError("its C part was compiled for another version of relayd: install relayd again")
        self._engine = engine
        self._sockets = sockets
        self._judge = Judge(engine, sockets, records)
        self._forwarder = Forwarder(
            [(one.socket.fileno(), int(one.endpoint.port)) for one in sockets], merge, *records.counts
        )
        self._flows = Flows(self._forwarder, engine.table, records, _soon)

    async def start(self) -> None:
        """Begins to take datagrams in."""
        loop = asyncio.get_running_loop()
        # Or all that waits in the sockets, seconds of it after a restart, would be passed up, and flows added behind it
        # would overtake it once they wait no longer.
        try:
            self._flows.flush()
        except Exception as error:  # noqa: BLE001 - as from the loop: whoever was refused stays with the engine
            loop.call_exception_handler({"message": "the forwarding thread refused a binding", "exception": error})
        self._forwarder.start()
        loop.add_reader(self._forwarder.fileno(), self._passed_up)

    def stop(self) -> None:
        """Closes the sockets."""
        asyncio.get_running_loop().remove_reader(self._forwarder.fileno())
        self._forwarder.stop()
        # What was taken in is not lost with the process.
        while self._judge_some():
            pass
        self.absorb(self._engine.table.sessions.values())
        for one in self._sockets:
            one.socket.close()

    def absorb(self, sessions: Iterable[Session]) -> None:
        """Adds what the thread counted to the counts of the engine and of these sessions: before anybody reads them."""
        self._flows.absorb(sessions)
        # Taken after the sessions, so that their sum is never more than the whole.
        counters = self._engine.counters
        for port, of_port in zip(Port, self._forwarder.take_totals(), strict=True):
            for verdict, (datagrams, size_bytes) in zip(Verdict, of_port, strict=True):
                counters.datagrams[port][verdict] += datagrams
                counters.bytes[port][verdict] += size_bytes

    def memory(self) -> list[tuple[Port, SocketMemory]]:
        """What the kernel keeps for each socket."""
        return memory_of(self._sockets)

    def delays(self) -> Histogram:
        """How long datagrams were in the relay: of each batch the one that waited longest."""
        delays = Histogram(_DELAY_BOUNDS_SECONDS)
        counts, delays.sum_seconds = self._forwarder.delays()
        delays.counts = list(counts)
        return delays

    def _passed_up(self) -> None:
        self._flows.answer_asked()
        for _ in range(_TURNS):
            if not self._judge_some():
                return

    def _judge_some(self) -> bool:
        """False if nothing was passed up."""
        now = asyncio.get_running_loop().time()
        datagrams = self._forwarder.take(_AT_ONCE)
        for number, data, source, local in datagrams:
            self._judge.receive(self._sockets[number].endpoint, data, source, now, local)
        return bool(datagrams)


def _soon(function: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(function)
