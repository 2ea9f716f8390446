"""Whether the relay's sockets are read: datagrams that it sends to itself, and that no peer ever sees."""

import select
import socket
from collections.abc import Sequence
from contextlib import suppress

from relayd.core.endpoint import Address, Endpoint
from relayd.core.engine import Action, Engine
from relayd.core.lookups import Lookups
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import MAX_DATAGRAM_BYTES
from relayd.forwarding.sockets import BoundSocket

_PROBE = bytes(MAX_DATAGRAM_BYTES + 1)
"""Longer than any peer's: told apart by its length alone. The fast path, too, passes such a
datagram of this host up to the sockets."""
_SWALLOWED = Action(Verdict.TOO_LONG)
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


class ProbedEngine(Engine):
    """An engine that notes which sockets datagrams come from, and neither counts nor answers the relay's own."""

    def __init__(self, table: Table, lookups: Lookups | None = None) -> None:
        super().__init__(table, lookups)
        self.heard: set[int] = set()
        """Numbers of the endpoints that gave it something since this was last emptied."""
        self.own: set[Address] = set()
        """IP address and port of the relay's own probes."""

    def handle(self, endpoint: Endpoint, data: bytes, source: Address, now: float) -> Action:
        """See `Engine.handle`."""
        self.heard.add(endpoint.number)
        if len(data) > MAX_DATAGRAM_BYTES and source[:2] in self.own:
            return _SWALLOWED
        return super().handle(endpoint, data, source, now)


class Probes:
    """Sends a datagram to each of the relay's sockets, and sees whether it got through.

    Args:
        engine: what reads the sockets in the end.
        sockets: all of the relay's, open for as long as this is used.
    """

    def __init__(self, engine: ProbedEngine, sockets: Sequence[BoundSocket]) -> None:
        self._engine = engine
        self._endpoints = {one.socket.fileno(): one.endpoint for one in sockets}
        self._waiting = select.poll()
        self._senders: list[socket.socket] = []
        for one in sockets:
            self._waiting.register(one.socket, select.POLLIN)
            # Where there is no way to its own address, nothing is sent; the socket is watched all the same.
            with suppress(OSError):
                self._senders.append(self._sender(one.socket))

    def _sender(self, to: socket.socket) -> socket.socket:
        ip_address, port = to.getsockname()[:2]
        sock = socket.socket(to.family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect((_LOOPBACK.get(ip_address, ip_address), port))
        except OSError:
            sock.close()
            raise
        self._engine.own.add(sock.getsockname()[:2])
        return sock

    def unread(self) -> list[Endpoint]:
        """The sockets in which something waits, and which gave the engine nothing since the last call.

        A socket that is empty was read, whatever came of it: a flood may have a probe dropped, a firewall too.
        """
        heard, self._engine.heard = self._engine.heard, set()
        waiting = [self._endpoints[fd] for fd, events in self._waiting.poll(0) if events & select.POLLIN]
        for sender in self._senders:
            with suppress(OSError):
                sender.send(_PROBE)
        return [endpoint for endpoint in waiting if endpoint.number not in heard]

    def close(self) -> None:
        """Sends no more."""
        for sender in self._senders:
            sender.close()
