"""A forwarding thread between real sockets, its peers, and what it passes up in the test's own hands."""

import socket
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from relayd.core.endpoint import Address, Local
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_ping
from tests.integration.waiting import PATIENCE_SECONDS
from tests.thread import compiled

S, C = Port.SERVER, Port.CLIENT
SESSION = 0xCAFEBABE
HOST, ALICE, BOB = 2000, 1001, 1002
FENCE, FENCE_SESSION = 3000, 0xFE7CE
VALID = b"\x01\x02"
_FENCE = encode_ping(FENCE, FENCE_SESSION)


def in_this_network(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


class Rig:
    """As a context manager it is started, unless told otherwise, and ends well.

    Args:
        ip: the relay's address; its endpoints are 0 for the server port and 1 for the client port.
        merge: see `Forwarder`.
        started: whether the thread runs already.
        run: calls a function in the network where the relay is.
        prepare: called with each of the relay's sockets.
    """

    def __init__(
        self,
        ip: str = "127.0.0.1",
        merge: bool = True,
        started: bool = True,
        run: Callable[..., Any] = in_this_network,
        prepare: Callable[[socket.socket], object] = bool,
    ) -> None:
        self._prepare = prepare
        self._ip, self._merge, self._started, self._run = ip, merge, started, run
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.sockets = {port: stack.enter_context(self._run(_open, (self._ip, 0))) for port in (S, C)}
            for sock in self.sockets.values():
                self._prepare(sock)
            endpoints = [(self.sockets[port].fileno(), int(port)) for port in (S, C)]
            self.forwarder = compiled.Forwarder(endpoints, self._merge)
            stack.callback(self.forwarder.stop)
            self._peers = stack.enter_context(ExitStack())
            self._fence = self.peer()
            self._fences: Counter[Port] = Counter()
            for port in (S, C):
                self.bind(self._fence, port, FENCE, FENCE_SESSION)
            if self._started:
                self.forwarder.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    # Peers --------------------------------------------------------------------------------------------------

    def address(self, port: Port) -> Address:
        """Where peers reach the relay."""
        name: Address = self.sockets[port].getsockname()
        return name

    def peer(self, ip: str | None = None, run: Callable[..., Any] | None = None) -> socket.socket:
        """A peer's socket, in the relay's network or in another."""
        sock: socket.socket = (run or self._run)(_open, (ip or ("127.0.0.1" if self._ip == "0.0.0.0" else self._ip), 0))
        sock.settimeout(PATIENCE_SECONDS)
        return self._peers.enter_context(sock)

    def bind(self, peer: socket.socket, port: Port, user: int, session: int = SESSION, connection_id: int = 0) -> int:
        """Has the thread forward for a peer; returns the slot."""
        return self.forwarder.add(int(port), peer.getsockname(), user, session, connection_id)

    def send(self, peer: socket.socket, port: Port, *datagrams: bytes) -> None:
        for datagram in datagrams:
            assert peer.sendto(datagram, self.address(port)) == len(datagram)

    def fence(self, port: Port) -> None:
        """Waits until all that was sent to this port before is decided on, gone and counted."""
        self.send(self._fence, port, _FENCE)
        assert self._fence.recv(100) == VALID
        self._fences[port] += 1
        # It counts what has left after that; what is stopped has counted.
        self.forwarder.stop()
        self.forwarder.start()

    # What the thread says -----------------------------------------------------------------------------------

    def drain(self) -> list[tuple[int, bytes, Address]]:
        """Takes all that was passed up, and is done with it."""
        return [(number, data, source) for number, data, source, _ in self.drain_asked()]

    def drain_asked(self) -> list[tuple[int, bytes, Address, Local | None]]:
        """The same, with the address of this host that each was sent to."""
        taken: list[tuple[int, bytes, Address, Local | None]] = []
        while more := self.forwarder.take(100):
            taken += more
        return taken

    def totals(self) -> dict[tuple[Port, Verdict], tuple[int, int]]:
        """Datagrams and bytes; without what is zero, and without fences."""
        found = {
            (port, verdict): counted
            for port, of_port in zip((S, C), self.forwarder.totals(), strict=True)
            for verdict, counted in zip(Verdict, of_port, strict=True)
        }
        for port in (S, C):
            datagrams, size_bytes = found[port, Verdict.ANSWERED]
            fences = self._fences[port]
            found[port, Verdict.ANSWERED] = datagrams - fences, size_bytes - fences * len(_FENCE)
        return {key: counted for key, counted in found.items() if counted != (0, 0)}


def _open(address: Address) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(address)
    return sock


def received(peer: socket.socket, count: int) -> list[bytes]:
    """The next datagrams."""
    return [peer.recv(2048) for _ in range(count)]


def heard_by_now(peer: socket.socket) -> list[bytes]:
    """All that is there."""
    heard: list[bytes] = []
    peer.setblocking(False)
    try:
        while True:
            heard.append(peer.recv(2048))
    except BlockingIOError:
        return heard
    finally:
        peer.settimeout(PATIENCE_SECONDS)
