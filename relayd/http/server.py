"""An ASGI application served by uvicorn on the running event loop, beside everything else."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from relayd.http.places import Places
from relayd.http.protocol import CanAbort, PunctualProtocol
from relayd.http.tcp import BACKLOG
from relayd.http.tls import Certificate
from relayd.http.tls_listener import TlsListener

GRACE_SECONDS = 5
"""How long requests under way may take once the server is to stop."""
_TICKS_BETWEEN_LOOKS = 600
"""uvicorn ticks ten times a second: a renewed certificate is found within a minute."""


class HttpServer(uvicorn.Server):
    """Serves until cancelled or until `stop`; signals are left to the owner of the loop.

    Args:
        app: the application.
        sock: where it listens, on TCP or a Unix socket.
        most_connections: at once. For one more the longest idle is closed, or itself where none is; the same for more
            than half of them from one IPv4 address or IPv6 /64 network.
        is_proxy: whether an address is that of a proxy, whose connections are many people's.
        certificate: for TLS; None for none.
    """

    def __init__(
        self,
        app: ASGIApp,
        sock: socket.socket,
        *,
        most_connections: int,
        is_proxy: Callable[[str], bool] = lambda _: False,
        certificate: Certificate | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                # Whoever reads X-Forwarded-For says which proxies it believes; uvicorn would believe 127.0.0.1.
                proxy_headers=False,
                h11_max_incomplete_event_size=16 << 10,
                timeout_graceful_shutdown=GRACE_SECONDS,
                # Longer than a relay is silent between two heartbeats, so that it need not reconnect for each.
                timeout_keep_alive=30,
            )
        )
        self._socket = sock
        self._places: Places[CanAbort] = Places(most_connections)
        self._is_proxy = is_proxy
        self._certificate = certificate
        self._looking: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens: as uvicorn does, but with bounds on connections and on the time of a handshake."""
        await self.lifespan.startup()
        self.servers = [await self._listen(sock) for sock in sockets or ()]
        self.started = True

    async def _listen(self, sock: socket.socket) -> Any:
        if self._certificate is None:
            return await asyncio.get_running_loop().create_server(self._connection, sock=sock, backlog=BACKLOG)
        return TlsListener(
            sock,
            context=self._certificate.context,
            places=self._places,
            is_proxy=self._is_proxy,
            made=self._connection,
        )

    def _connection(self, instead_of: CanAbort | None = None) -> PunctualProtocol:
        return PunctualProtocol(self.config, self.server_state, self._places, self._is_proxy, instead_of)

    async def on_tick(self, counter: int) -> bool:
        """Looks after the certificate, and does what uvicorn does."""
        looking = self._looking is not None and not self._looking.done()
        if self._certificate is not None and counter % _TICKS_BETWEEN_LOOKS == 0 and not looking:
            # Beside: one that hangs must not keep the server from stopping.
            self._looking = asyncio.create_task(self._certificate.refresh())
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the process's signal handlers alone."""
        yield

    async def run_until_stopped(self) -> None:
        """Answers requests until `stop` is called, then lets running ones finish."""
        await self.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Ends `run_until_stopped`."""
        self.should_exit = True
