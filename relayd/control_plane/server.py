"""Runs the control plane: alone, start to end, or in pieces for a process that has a loop of its own."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import structlog
from fastapi import FastAPI

from relayd.control_plane.api.application import create_app
from relayd.control_plane.api.auth import Authenticator
from relayd.control_plane.api.caller import Callers
from relayd.control_plane.errors import StoreTakenError, StoreUnusableError
from relayd.control_plane.service import ControlPlane
from relayd.control_plane.store.lock import locked
from relayd.control_plane.store.sqlite import MEMORY, SqliteStore
from relayd.control_plane.webhooks.delivery import Webhooks
from relayd.errors import ConfigurationError, UnavailableError
from relayd.http.server import HttpServer
from relayd.http.tcp import listen
from relayd.http.tls import Certificate
from relayd.settings import ApiSettings, Settings, read_secret
from relayd.supervision.service_manager import ServiceManager

log = structlog.get_logger()

_DAY_SECONDS = 86_400.0


class Opened(NamedTuple):
    """A control plane and its app."""

    control_plane: ControlPlane
    app: FastAPI


@contextlib.asynccontextmanager
async def open_control_plane(
    api: ApiSettings, *, token_bits: int = 31, extra_key: str | None = None
) -> AsyncIterator[Opened]:
    """A started control plane with its app; stopped at the end of the block.

    Args:
        api: its configuration.
        token_bits: of the tokens that it draws.
        extra_key: a key that has every scope.

    Raises:
        ConfigurationError: a secret's file, or the database, cannot be used.
        UnavailableError: another control plane serves the database.
        StoreUnavailableError: the database is locked by somebody else.
    """
    secret = read_secret(api.webhook_secret_file, "api.webhook_secret_file") if api.webhook_secret_file else None
    async with contextlib.AsyncExitStack() as stack:
        try:
            if api.database != MEMORY:
                stack.enter_context(locked(Path(api.database)))
            store = SqliteStore(api.database, token_bits=token_bits)
        except StoreTakenError as error:
            raise UnavailableError(f"api.database: {error}") from None
        except StoreUnusableError as error:
            raise ConfigurationError(f"api.database: {error}") from None
        webhooks = Webhooks(store, secret, allow_private=api.webhook_allow_private)
        control_plane = ControlPlane(store, webhooks, usage_kept_seconds=api.usage_kept_days * _DAY_SECONDS)
        stack.push_async_callback(control_plane.stop)
        authenticator = Authenticator(store, token_file=api.token_file, extra_key=extra_key)
        await control_plane.start()
        yield Opened(control_plane, create_app(control_plane, authenticator, Callers(api.trusted_proxies)))


async def serve(settings: Settings, manager: ServiceManager | None = None) -> None:
    """The control plane alone, until SIGTERM or SIGINT.

    Args:
        settings: its configuration.
        manager: the service manager that is told when it is ready, and that the loop runs.

    Raises:
        ConfigurationError: the configuration cannot be used.
        UnavailableError: the port is not available, or another control plane serves the database.
        StoreUnavailableError: the database is locked by somebody else.
    """
    api = settings.api
    certificate = Certificate.configured(api.tls_certificate_file, api.tls_key_file, "api")
    listener = listen(api.bind, "api.bind")
    try:
        async with open_control_plane(api, token_bits=settings.limits.token_bits) as (control_plane, app):
            server = HttpServer(
                app,
                listener,
                most_connections=api.max_connections,
                is_proxy=Callers(api.trusted_proxies).trusts,
                certificate=certificate,
            )

            def end() -> None:
                log.info("control plane stopping")
                if manager is not None:
                    manager.tell("STOPPING=1")
                control_plane.release()
                server.stop()

            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, end)
            if api.token_file is None and not await control_plane.has_keys():
                log.warning("no api key", way_out="set [api] token_file, or make one: relayd control-plane keys add")
            log.info("control plane ready", address=api.bind, database=api.database)
            watching: list[asyncio.Task[None]] = []
            if manager is not None:
                manager.tell("READY=1")
                watching.append(asyncio.create_task(manager.watch_forever()))
            await server.run_until_stopped()
            for task in watching:
                task.cancel()
    finally:
        listener.close()
    log.info("control plane stopped")
