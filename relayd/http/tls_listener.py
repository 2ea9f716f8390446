"""A TLS server whose connections have their places from the first packet on, not only after their handshakes."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from relayd.http.places import Places
from relayd.http.protocol import CanAbort, source_of

_HANDSHAKE_SECONDS = 10.0
_AT_ONCE = 100
"""Connections that are accepted before anything else is done."""
_PAUSE_SECONDS = 1.0
"""Where there is no descriptor left: asyncio waits as long."""


class TlsListener:
    """Accepts connections until closed.

    A server of asyncio's tells nobody of connections whose handshake goes on: there could be as many as descriptors.

    Args:
        sock: where it listens.
        context: for TLS.
        places: for all connections of the server.
        is_proxy: whether an address is that of a proxy.
        made: gives the protocol of a connection, which takes the place of what it is given.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        context: ssl.SSLContext,
        places: Places[CanAbort],
        is_proxy: Callable[[str], bool],
        made: Callable[[CanAbort], asyncio.Protocol],
    ) -> None:
        # uvicorn closes the socket before it closes the server.
        self._sock = sock.dup()
        self._sock.setblocking(False)
        self._context = context
        self._places = places
        self._is_proxy = is_proxy
        self._made = made
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None
        self._listen()

    def _listen(self) -> None:
        self._again = None
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Accepts no more."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    async def wait_closed(self) -> None:
        """Ends handshakes that still go on."""
        for shaking in self._handshakes:
            shaking.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connected, client = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._sock)
                self._again = self._loop.call_later(_PAUSE_SECONDS, self._listen)
                return
            connected.setblocking(False)
            shaking = self._loop.create_task(self._shake_hands(connected, client))
            self._handshakes.add(shaking)
            shaking.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, connected: socket.socket, client: tuple[str, int]) -> None:
        connecting = _Connecting(connected)
        gone = self._places.enter(connecting, source_of(client, self._is_proxy))
        if gone is not None:
            gone.abort()
        try:
            with contextlib.suppress(OSError):  # among them ssl.SSLError, and that the other side is gone
                await self._loop.connect_accepted_socket(
                    lambda: self._made(connecting),
                    connected,
                    ssl=self._context,
                    ssl_handshake_timeout=_HANDSHAKE_SECONDS,
                )
        finally:
            self._places.leave(connecting)


class _Connecting:
    """A connection whose handshake goes on."""

    def __init__(self, connected: socket.socket) -> None:
        self._connected = connected

    def abort(self) -> None:
        """Ends it, and so the handshake."""
        with contextlib.suppress(OSError):  # the other side was faster
            self._connected.shutdown(socket.SHUT_RDWR)
