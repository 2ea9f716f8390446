"""Runs the control plane: alone, start to end, or in pieces for a process that has a loop of its own."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import structlog
import uvicorn
from fastapi import FastAPI

from relayd.controlplane.api import create_app
from relayd.controlplane.auth import Authenticator, read_secret
from relayd.controlplane.errors import StoreUnusableError
from relayd.controlplane.service import ControlPlane
from relayd.controlplane.sqlite import SqliteStore
from relayd.controlplane.webhook import Webhooks
from relayd.settings import ApiSettings, ConfigurationError, split_address

GRACE = 10
"""Seconds that requests under way are given to end."""

log = structlog.get_logger()


class AddressUnavailableError(Exception):
    """The REST API cannot listen where it should; the text is one line for the operator."""


class Opened(NamedTuple):
    """A control plane and its app."""

    control_plane: ControlPlane
    app: FastAPI


class Server(uvicorn.Server):
    """uvicorn that leaves signals alone. `should_exit = True` ends it, requests under way first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does nothing: signals are the business of whoever owns the process."""
        yield


@contextlib.asynccontextmanager
async def open_control_plane(api: ApiSettings, *, extra_key: str | None = None) -> AsyncIterator[Opened]:
    """A started control plane with its app; stopped at the end of the block. The extra key has every scope.

    Raises:
        ConfigurationError: a secret's file, or the database, cannot be used.
        StoreUnavailableError: the database is locked by somebody else.
    """
    secret = read_secret(api.webhook_secret_file, "api.webhook_secret_file") if api.webhook_secret_file else None
    try:
        store = SqliteStore(api.database)
    except StoreUnusableError as error:
        raise ConfigurationError(f"api.database: {error}") from None
    control_plane = ControlPlane(store, Webhooks(store, secret, allow_private=api.webhook_allow_private))
    try:
        authenticator = Authenticator(store, api.token_file, extra_key)
        await control_plane.start()
        yield Opened(control_plane, create_app(control_plane, authenticator))
    finally:
        await control_plane.stop()


def bind(address: str) -> socket.socket:
    """A socket bound to `host:port` for the REST API; port 0 is not taken here.

    Raises:
        AddressUnavailableError: the address is taken, or not this machine's.
    """
    host, port = split_address(address)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # A port in TIME_WAIT from before a restart can be had again; one that somebody listens on cannot.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # uvloop listens again later; this one makes the port ours before anything else is started.
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise AddressUnavailableError(
            f"api.bind: {address} cannot be had: {error.strerror}; stop what uses it, or choose another address"
        ) from None
    listener.setblocking(False)
    return listener


def make_server(app: FastAPI) -> Server:
    """A server for the app: `await server.serve(sockets=[listener])` runs it until `server.should_exit = True`.

    It logs nothing of its own, and touches no signal.
    """
    return Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            backlog=1024,
            timeout_graceful_shutdown=GRACE,
            # Longer than a relay is silent between two heartbeats, so that it need not connect anew for each.
            timeout_keep_alive=30,
        )
    )


async def serve(api: ApiSettings) -> None:
    """The control plane alone, until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: the configuration cannot be used.
        AddressUnavailableError: the port cannot be had.
        StoreUnavailableError: the database is locked by somebody else.
    """
    listener = bind(api.bind)
    try:
        async with open_control_plane(api) as (control_plane, app):
            server = make_server(app)

            def end() -> None:
                log.info("control plane stopping")
                control_plane.release()
                server.should_exit = True

            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, end)
            if api.token_file is None and not await control_plane.has_keys():
                log.warning("no api key", way_out="set [api] token_file, or make one: relayd control-plane keys add")
            log.info("control plane ready", address=api.bind, database=api.database)
            await server.serve(sockets=[listener])
    finally:
        listener.close()
    log.info("control plane stopped")
