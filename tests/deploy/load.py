"""Games in many sessions at once, through two sockets: enough to have a relay at work."""

import socket
import struct
import threading
from itertools import cycle, islice
from types import TracebackType
from typing import Self

from tests.integration.config import SessionKeys
from tests.integration.peers import DATA, PING
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import PATIENCE_SECONDS

_AT_ONCE = 200
"""PINGs that are under way together: few enough for every buffer."""
_TICK_SECONDS = 0.01
_BUFFER_BYTES = 4 << 20
_PAYLOAD = struct.Struct("<BII91x")
"""Channel and cookie as KCP has them, then which session it is."""


class Load:
    """Binds a host and a player in every session, then has some of the players talk to their hosts, who answer.

    Args:
        relay: where.
        sessions: all that are bound.
        playing: in how many of them a game is on.
        per_tick: how many players say something, a hundred times a second.
    """

    def __init__(self, relay: RelayProcess, sessions: list[SessionKeys], playing: int, per_tick: int) -> None:
        self._hosts = [struct.pack("<II", one.host, one.token) for one in sessions]
        self._players = [struct.pack("<II", one.players[0], one.token) for one in sessions]
        self._talking = cycle(range(playing))
        self._per_tick = per_tick
        self._server, self._client = (_connected(relay, port) for port in ("server", "client"))
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._play)
        self.heard_back = 0
        """Datagrams that came back to a player."""

    def __enter__(self) -> Self:
        for sock, headers in ((self._server, self._hosts), (self._client, self._players)):
            _ping_all(sock, headers)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()
        self._server.close()
        self._client.close()

    def _play(self) -> None:
        self._server.setblocking(False)
        self._client.setblocking(False)
        while not self._end.wait(_TICK_SECONDS):
            for number in islice(self._talking, self._per_tick):
                self._client.send(self._players[number] + DATA + _PAYLOAD.pack(1, 1, number))
            for datagram in _received(self._server):
                # Type, connection id, payload: sent back as it came, in the name of that session's host.
                number = _PAYLOAD.unpack_from(datagram, 5)[2]
                self._server.send(self._hosts[number] + datagram)
            self.heard_back += len(_received(self._client))


def _connected(relay: RelayProcess, port: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    sock.connect(relay.address(port))
    return sock


def _ping_all(sock: socket.socket, headers: list[bytes]) -> None:
    sock.settimeout(PATIENCE_SECONDS)
    for first in range(0, len(headers), _AT_ONCE):
        batch = headers[first : first + _AT_ONCE]
        for header in batch:
            sock.send(header + PING)
        for _ in batch:
            sock.recv(2048)


def _received(sock: socket.socket) -> list[bytes]:
    found: list[bytes] = []
    while True:
        try:
            found.append(sock.recv(2048))
        except BlockingIOError:
            return found
