"""Whether the relay's sockets are read: datagrams that it sends to itself, and that no peer ever sees."""

import socket
from collections.abc import Sequence
from contextlib import suppress

from relayd.core.endpoint import Address, Endpoint, Local
from relayd.core.engine import Action, Engine
from relayd.core.lookups import Lookups
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import MAX_DATAGRAM_BYTES
from relayd.forwarding.named_addresses import is_here
from relayd.forwarding.sockets import EVERYWHERE, BoundSocket

_PROBE = bytes(MAX_DATAGRAM_BYTES + 1)
"""Longer than any peer's: told apart by its length alone. The fast path, too, passes such a
datagram of this host up to the sockets."""
_SWALLOWED = Action(Verdict.TOO_LONG)
_SO_TIMESTAMPNS = 35
_TIMESPEC_BYTES = 16
"""socket(7): when a datagram arrived, in nanoseconds, as a `struct timespec` beside it."""
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


class ProbedEngine(Engine):
    """An engine that neither counts nor answers the relay's own probes."""

    def __init__(self, table: Table, lookups: Lookups | None = None) -> None:
        super().__init__(table, lookups)
        self.own: set[Address] = set()
        """IP address and port of the relay's own probes."""

    def handle(
        self, endpoint: Endpoint, data: bytes, source: Address, now: float, local: Local | None = None
    ) -> Action:
        """See `Engine.handle`."""
        if len(data) > MAX_DATAGRAM_BYTES and source[:2] in self.own:
            return _SWALLOWED
        return super().handle(endpoint, data, source, now, local)


class Probes:
    """Sends a datagram to each of the relay's sockets, and sees whether it got through.

    Args:
        engine: what reads the sockets in the end.
        sockets: all of the relay's, open for as long as this is used.
    """

    def __init__(self, engine: ProbedEngine, sockets: Sequence[BoundSocket]) -> None:
        self._engine = engine
        self._sockets = sockets
        self._oldest: list[bytes | None] = [None] * len(sockets)
        """When what has waited longest in each socket had arrived there, at the last look; None where nothing did."""
        self._senders: dict[Endpoint, socket.socket] = {}
        for one in sockets:
            one.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)

    def _sender(self, to: socket.socket) -> socket.socket:
        ip_address, port, *scope = to.getsockname()
        sock = socket.socket(to.family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect((_LOOPBACK.get(ip_address, ip_address), port, *scope))
        except OSError:
            sock.close()
            raise
        self._engine.own.add(sock.getsockname()[:2])
        return sock

    def unread(self) -> list[Endpoint]:
        """The sockets in which the same datagram waits longest as at the last call.

        Not those that merely have one waiting: a socket that gets more than the relay can do is full at every look,
        and read all the time. A probe does not even fit in there; a flood or a firewall may have it dropped as well.
        """
        before, now = self._oldest, self._look()
        for one in self._sockets:
            # Where there is no way to its own address, nothing is sent; the socket is watched all the same.
            with suppress(OSError):
                self._send(one)
        self._oldest = self._look()
        return [
            one.endpoint
            for one, then, still in zip(self._sockets, before, now, strict=True)
            if still is not None and still == then
        ]

    def _send(self, to: BoundSocket) -> None:
        if not _is_here(to.socket):
            # What is sent to an address that has left this host would reach whoever has it now.
            sender = self._senders.pop(to.endpoint, None)
            if sender is not None:
                self._engine.own.discard(sender.getsockname()[:2])
                sender.close()
            return
        if to.endpoint not in self._senders:
            self._senders[to.endpoint] = self._sender(to.socket)
        self._senders[to.endpoint].send(_PROBE)

    def _look(self) -> list[bytes | None]:
        return [_oldest(one.socket) for one in self._sockets]

    def close(self) -> None:
        """Sends no more."""
        for sender in self._senders.values():
            sender.close()


def _is_here(sock: socket.socket) -> bool:
    ip_address, _, *scope = sock.getsockname()
    interface = f"%{socket.if_indextoname(scope[1])}" if any(scope) else ""
    return ip_address in EVERYWHERE or is_here(ip_address + interface)


def _oldest(sock: socket.socket) -> bytes | None:
    try:
        space = socket.CMSG_SPACE(_TIMESPEC_BYTES)
        _, beside, _, _ = sock.recvmsg(0, space, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return None
    return next((data for level, kind, data in beside if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS)), None)
