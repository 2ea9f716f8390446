"""A relay put together: read `Relay.serve` from top to bottom as start, run, stop."""

import asyncio
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterable

import structlog

from relayd import __version__
from relayd.core.engine import Engine
from relayd.core.events import Event, EventKind
from relayd.core.session import Session
from relayd.core.table import Table
from relayd.core.wire import MAX_CONNECTION_ID
from relayd.edge.admin import create_admin
from relayd.edge.forwarder import Ports, open_ports
from relayd.edge.journal import Journal
from relayd.edge.loop_delay import LoopDelay
from relayd.edge.metrics import RelayMetrics
from relayd.edge.metrics.series import SessionSeries
from relayd.edge.sockets import BoundSocket, open_sockets
from relayd.edge.source import Load, SessionTable, Source
from relayd.edge.source.control_plane.follow import ControlPlaneSource
from relayd.edge.source.control_plane.http import HttpClient
from relayd.edge.source.control_plane.keeper import Keeper
from relayd.edge.source.control_plane.last_good import LastGood
from relayd.edge.source.control_plane.negotiate import NegotiatedLink
from relayd.edge.source.control_plane.node_api import NodeApi
from relayd.edge.source.control_plane.public_list import PublicList
from relayd.edge.source.file import FileSource
from relayd.edge.xdp.fast_path import FastPath
from relayd.edge.xdp.start import start_fast_path
from relayd.errors import ConfigurationError, UnavailableError
from relayd.garbage import Growth, settle
from relayd.http_server import HttpServer, listen
from relayd.owner import TableOwner
from relayd.settings import Settings

_SWITCH_SECONDS = 0.0005

_log = structlog.get_logger()

SourceFactory = Callable[[Settings, SessionTable, Callable[[], Load]], Source]


def source_from_settings(settings: Settings, table: SessionTable, load: Callable[[], Load]) -> Source:
    """The source that [source] names, for `relayd run`.

    Raises:
        ConfigurationError: `relayd run` has no such source, or its key cannot be read.
    """
    source = settings.source
    if source.kind == "file":
        return FileSource(source.path, source.poll_interval, source.shrink_hold, table)
    if source.kind == "embedded":
        raise ConfigurationError('source.kind: "embedded" is what `relayd dev` uses; `relayd run` needs another')
    client = HttpClient(source.url, source.read_key, source.timeout)
    link = NegotiatedLink(
        NodeApi(client, settings.relay, settings.limits), PublicList(client, settings.relay), time.monotonic
    )
    keeper = Keeper(LastGood(settings.state.directory), table)
    return ControlPlaneSource(link, table, keeper, source.poll_interval, source.shrink_hold, load)


class Relay:
    """One relay: table, engine, sockets, source and admin server, on the running event loop.

    Args:
        settings: the whole configuration.
        make_source: what follows the sessions.
        remove_fast_path: whether the fast path ends with `serve`; else it goes on forwarding for those who are bound,
            until the next relay takes it over.
    """

    def __init__(
        self,
        settings: Settings,
        make_source: SourceFactory = source_from_settings,
        remove_fast_path: bool = False,
    ) -> None:
        self.settings = settings
        self._fast_path: FastPath | None = None
        self._ports: Ports | None = None
        self._remove_fast_path = remove_fast_path
        self.table = Table(settings.limits, _new_connection_id, self._on_event)
        self.engine = Engine(self.table)
        self.owner = TableOwner(self.table)
        self.source = make_source(settings, self.owner, self._load)
        self.engine.lookups = self.source.lookups
        self._series = SessionSeries(settings.admin.max_session_series)
        self._journal = Journal(self.engine.counters)
        self._growth = Growth()
        self._stopping = asyncio.Event()
        self._started = asyncio.Event()

    async def serve(self) -> None:
        """Runs the relay until `stop`.

        Raises:
            UnavailableError: a port, or the fast path that is required, is not to be had; nothing was started.
        """
        sockets, warnings = open_sockets(self.settings.relay)
        try:
            admin_socket = listen(self.settings.admin.bind, "admin.bind")
        except UnavailableError:
            _close(sockets)
            raise
        loop = asyncio.get_running_loop()
        for warning in warnings:
            _log.warning(warning)
        try:
            self._fast_path = start_fast_path(
                self.settings,
                self.engine,
                [(one.endpoint, one.socket.getsockname()[0]) for one in sockets],
                loop.call_soon,
            )
            # With the fast path on `lo`, what the sockets send passes it by, and merged datagrams are nothing for it.
            ports = self._ports = open_ports(
                self.settings.relay.forwarder, self.engine, sockets, merge=self._fast_path is None
            )
        except UnavailableError:
            if self._fast_path is not None:
                self._fast_path.stop(self._remove_fast_path)
            _close(sockets)
            admin_socket.close()
            raise
        loop_delay = LoopDelay()
        metrics = RelayMetrics(
            self.engine,
            self._series,
            self.source.status,
            loop.time,
            self._absorb,
            ports,
            loop_delay.histogram,
            self._fast_path,
        )
        admin = HttpServer(
            create_admin(self.settings.relay, self.engine, self.source.status, metrics, self._absorb), admin_socket
        )

        await ports.start()
        tasks = [
            asyncio.create_task(self.source.run(), name="source"),
            asyncio.create_task(self.owner.expire_forever(), name="expiry"),
            asyncio.create_task(self._tick_forever(), name="journal"),
            asyncio.create_task(loop_delay.watch_forever(), name="loop delay"),
        ]
        if self._fast_path is not None:
            tasks.append(asyncio.create_task(self._fast_path.run_forever(), name="fast path"))
        admin_task = asyncio.create_task(admin.run_until_stopped(), name="admin")
        relay = self.settings.relay
        _log.info(
            "relay started",
            version=__version__,
            bind=relay.bind,
            server_port=relay.server_port,
            client_port=relay.client_port,
            admin=self.settings.admin.bind,
        )
        settle()
        self._started.set()

        try:
            await self._wait_for_the_end([*tasks, admin_task])
        finally:
            ports.stop()
            admin.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, admin_task, return_exceptions=True)
            if self._fast_path is not None:
                self._fast_path.stop(self._remove_fast_path)
        _log.info("relay stopped")

    async def until_started(self, serving: asyncio.Task[None]) -> None:
        """Waits until `serve`, which runs as this task, has opened everything; raises what it raised instead."""
        started = asyncio.create_task(self._started.wait())
        await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if serving.done():
            await serving

    def stop(self) -> None:
        """Ends `serve`."""
        self._stopping.set()

    def reload(self) -> None:
        """Reads the session source again."""
        _log.info("reading the session source again")
        self.source.reload()

    async def _wait_for_the_end(self, tasks: list[asyncio.Task[None]]) -> None:
        """Until `stop`, or until a part that should never end fails, which is a defect and ends the relay."""
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in tasks:
            if task.done():
                task.result()

    async def _tick_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._absorb(())
            self._journal.tick(loop.time())
            await asyncio.sleep(1.0)

    def _load(self) -> Load:
        return Load(sum(self.table.bound), self.engine.draining)

    def _absorb(self, sessions: Iterable[Session]) -> None:
        """Adds what was forwarded without the engine to its counts: before anybody reads them."""
        # The sessions are taken down before the totals, so that these are never less than the sum of those.
        if self._ports is not None:
            self._ports.absorb(sessions)
        if self._fast_path is not None:
            self._fast_path.absorb(sessions)

    def _on_event(self, event: Event) -> None:
        if self._fast_path is not None:
            # First, so that what the kernel counted for a binding that ends is there for the others to read.
            self._fast_path.event(event)
        if self._ports is not None:
            self._ports.event(event)
        if event.kind is EventKind.SESSION_IDLE:
            self.source.session_ended(event.session.session_id)
        if event.kind is EventKind.USER_BOUND:
            self._growth.more()
        self._series.event(event)
        self._journal.event(event)


async def run(settings: Settings, remove_fast_path: bool = False) -> None:
    """`relayd run`: a relay that ends with SIGTERM or SIGINT and reads its source again with SIGHUP.

    Args:
        settings: the whole configuration.
        remove_fast_path: see `Relay`.
    """
    # So that no thread keeps the loop waiting for the interpreter's lock: 5 ms is the default.
    sys.setswitchinterval(_SWITCH_SECONDS)
    relay = Relay(settings, remove_fast_path=remove_fast_path)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, relay.stop)
    loop.add_signal_handler(signal.SIGHUP, relay.reload)
    await relay.serve()


def _new_connection_id() -> int:
    return 1 + secrets.randbelow(MAX_CONNECTION_ID)


def _close(sockets: list[BoundSocket]) -> None:
    for one in sockets:
        one.socket.close()
