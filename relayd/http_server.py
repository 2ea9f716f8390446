"""A FastAPI application served by uvicorn on the running event loop, beside everything else."""

import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from relayd.tcp import BACKLOG

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
