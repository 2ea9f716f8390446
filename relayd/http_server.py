"""A FastAPI application served by uvicorn on the running event loop, beside everything else."""

import contextlib
import errno
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from relayd.errors import UnavailableError
from relayd.settings import split_address


def listen(address: str, setting: str) -> socket.socket:
    """A listening TCP socket.

    Args:
        address: ``host:port``.
        setting: the key of the configuration it comes from, to be named in errors.

    Raises:
        UnavailableError: the address and port cannot be had.
    """
    host, port = split_address(address)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        who = f": `ss -ltnp sport = :{port}` shows by whom" if error.errno == errno.EADDRINUSE else ""
        taken = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
        raise UnavailableError(f"TCP port {port} on {host} ({setting}) {taken}{who}") from None
    return sock


BACKLOG = 1024
GRACE_SECONDS = 5
"""How long requests under way may take once the server is to stop."""


class HttpServer(uvicorn.Server):
    """Serves until cancelled or until `stop`; signals stay with whoever runs the loop."""

    def __init__(self, app: FastAPI, sock: socket.socket) -> None:
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
                backlog=BACKLOG,
                timeout_graceful_shutdown=GRACE_SECONDS,
                # Longer than a relay is silent between two heartbeats, so that it need not connect anew for each.
                timeout_keep_alive=30,
            )
        )
        self._socket = sock

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
