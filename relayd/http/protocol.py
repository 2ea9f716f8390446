"""HTTP/1.1 as uvicorn serves it, for clients that keep to time: an unused connection costs memory and a descriptor."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from relayd.core.limits import network_of
from relayd.core.relay_session import canonical_ip
from relayd.http.places import Places

REQUEST_SECONDS = 10.0
"""For a request to be there whole, headers and body, from the connection or its first byte on."""
ANSWER_SECONDS = 30.0
"""For a client to take anything of an answer that it lets wait."""

LAST_REQUEST_SECONDS = 3.0
"""For a client that is connected to a server that stops: its request may be on the way."""

_THEIR_TURN = (h11.IDLE, h11.SEND_BODY)


class CanAbort(Protocol):
    """A connection that can be closed for the sake of another."""

    def abort(self) -> None:
        """Closes it at once."""


class _Patience:
    """With the other side: for so long, once it begins."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, transport: asyncio.Transport) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, transport.abort)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class PunctualProtocol(H11Protocol):
    """Closes a connection that is one too many, that does not ask in time, or does not take its answer.

    Args:
        config: uvicorn's.
        server_state: of the server, with all of its connections.
        places: for all connections of the server.
        is_proxy: whether an address is that of a proxy, which has no bound of its own.
        instead_of: what has had its place until now, if anything has.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        places: Places[CanAbort],
        is_proxy: Callable[[str], bool],
        instead_of: CanAbort | None = None,
    ) -> None:
        super().__init__(config, server_state, {})
        self._places = places
        self._is_proxy = is_proxy
        self._instead_of = instead_of
        self._for_a_request = _Patience(self.loop, REQUEST_SECONDS)
        self._to_be_read = _Patience(self.loop, ANSWER_SECONDS)
        self._for_a_last_one = _Patience(self.loop, LAST_REQUEST_SECONDS)
        self._ends_after_one = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Takes the connection, if there is room for it, or for its sake lets one go that waits for nothing."""
        super().connection_made(transport)
        self._for_a_request.begin(transport)
        if self._instead_of is not None:
            self._places.leave(self._instead_of)
        gone = self._places.enter(self, source_of(self.client, self._is_proxy))
        if gone is not None:
            gone.abort()

    def abort(self) -> None:
        """Closes the connection at once."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Takes a part of a request."""
        super().data_received(data)
        if self.conn.their_state in _THEIR_TURN:
            self._for_a_request.begin(self.transport)
        else:
            self._for_a_request.end()
            self._for_a_last_one.end()
            self._places.busy(self)

    def on_response_complete(self) -> None:
        """Waits for the next request; of one that has begun, not as long as for one that has not."""
        super().on_response_complete()
        if self._ends_after_one:
            super().shutdown()
        elif self.conn.their_state in _THEIR_TURN:
            self._places.idle(self)
            if self.conn.trailing_data[0]:
                self._for_a_request.begin(self.transport)

    def shutdown(self) -> None:
        """The server stops. Who was accepted and has not asked yet is answered once, not turned away."""
        if self.cycle is not None:
            super().shutdown()
            return
        self._ends_after_one = True
        self._for_a_last_one.begin(self.transport)

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        super().pause_writing()
        self._to_be_read.begin(self.transport)
        self._places.idle(self)

    def resume_writing(self) -> None:
        """It does again."""
        self._to_be_read.end()
        if self.conn.their_state not in _THEIR_TURN:  # else that was the end of the answer
            self._places.busy(self)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
        self._for_a_request.end()
        self._to_be_read.end()
        self._for_a_last_one.end()
        self._places.leave(self)
        super().connection_lost(exc)


def source_of(client: tuple[str, int] | None, is_proxy: Callable[[str], bool]) -> str | None:
    """The network that the other side is in; None for a proxy, and for who comes by a local socket."""
    if client is None:
        return None
    address = canonical_ip(client[0].partition("%")[0])
    return None if is_proxy(address) else network_of(address)
