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
        sock.listen(128)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        who = f": `ss -ltnp sport = :{port}` shows by whom" if error.errno == errno.EADDRINUSE else ""
        taken = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
        raise UnavailableError(f"TCP port {port} on {host} ({setting}) {taken}{who}") from None
    return sock


class HttpServer(uvicorn.Server):
    """Serves until cancelled or until `stop`; signals stay with whoever runs the loop."""

    def __init__(self, app: FastAPI, sock: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
        )
        self._socket = sock

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the process's signal handlers alone."""
        yield

    async def run_until_stopped(self) -> None:
        """Answers requests until `stop` is called, then lets running ones finish for two seconds."""
        await self.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Ends `run_until_stopped`."""
        self.should_exit = True
