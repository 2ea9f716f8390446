"""A relay put together: read `Relay.serve` from top to bottom as start, run, stop."""

import asyncio
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import structlog

from relayd import __version__
from relayd.admin.change_log import ChangeLog
from relayd.admin.drain import Drain
from relayd.admin.listeners import AdminFiles, AdminListeners
from relayd.admin.metrics.series import SessionSeries
from relayd.core.engine import Engine
from relayd.core.followers import Followers, Phase
from relayd.core.session import Session
from relayd.core.source_status import Load
from relayd.core.table import Table
from relayd.core.wire import MAX_CONNECTION_ID
from relayd.errors import UnavailableError
from relayd.event_loop.delay import LoopDelay
from relayd.event_loop.garbage import Growth, settle
from relayd.event_loop.pacing import in_slices
from relayd.forwarding.addresses import OwnAddresses
from relayd.forwarding.choose import Ports, open_ports
from relayd.forwarding.kernel.fast_path import FastPath
from relayd.forwarding.kernel.start import start_fast_path
from relayd.forwarding.merging import merges
from relayd.forwarding.named_addresses import NamedAddresses
from relayd.forwarding.sockets import BoundSocket, open_sockets
from relayd.session_source.choose import SourceFactory, source_from_settings
from relayd.session_source.idle_sessions import IdleSessions
from relayd.session_source.owner import TableOwner
from relayd.settings import Settings
from relayd.state.predecessor import Predecessor
from relayd.supervision.kept_sockets import NOTHING_KEPT, KeptSockets
from relayd.supervision.liveness import Liveness
from relayd.supervision.probes import ProbedEngine
from relayd.supervision.service_manager import ServiceManager
from relayd.supervision.successor import Successor
from relayd.usage.metering import Metering

if TYPE_CHECKING:
    from relayd.http.server import HttpServer

_BEATS = "liveness"
"""The task that tells the service manager that the relay lives: until it does not."""

_LAST_RECORDS_SECONDS = 5.0
"""How long the end of the process waits for the usage journal's disk."""

_log = structlog.get_logger()


class _Parts(NamedTuple):
    """What is opened before anything begins."""

    ports: Ports
    predecessor: Predecessor
    change_log: ChangeLog
    listeners: AdminListeners


class Relay:
    """One relay: table, engine, sockets, source and admin server, on the running event loop.

    Args:
        settings: the whole configuration.
        admin_path: of the Unix socket on which commands ask it.
        make_source: what follows the sessions.
        remove_fast_path: whether the fast path ends with `serve`; else it keeps forwarding for bound users until the
            next relay takes it over.
        keeps_state: whether there is a state file, for the next relay to take over.
        in_memory: a directory in memory for it, which outlives the process; None for no such place.
        manager: the service manager that keeps the sockets over a restart, and is told how the relay is doing.
        kept: sockets that the predecessor left open.
        environment: what an upgraded program is to have; None where none can take over.
        config: the file that the settings are from; None for the default one.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        admin_path: Path,
        make_source: SourceFactory = source_from_settings,
        remove_fast_path: bool = False,
        keeps_state: bool = True,
        in_memory: Path | None = None,
        manager: ServiceManager | None = None,
        kept: KeptSockets = NOTHING_KEPT,
        environment: Mapping[str, str] | None = None,
        config: Path | None = None,
    ) -> None:
        self.settings = settings
        self._config = config
        self._fast_path: FastPath | None = None
        self._metering: Metering | None = None
        self._ports: Ports | None = None
        self._sockets: list[BoundSocket] = []
        self._admin_path = admin_path
        self._listeners: AdminListeners | None = None
        self._serving: list[tuple[HttpServer, asyncio.Task[None]]] = []
        self._loop_delay = LoopDelay()
        self._remove_fast_path = remove_fast_path
        self._keeps_state = keeps_state
        self._in_memory = in_memory
        self.table = Table(settings.limits, _new_connection_id, Followers(_log_failure))
        self.owner = TableOwner(self.table)
        self.source = make_source(settings, self.owner, self._load)
        self.engine = Engine(self.table, self.source.lookups)
        self._liveness: Liveness | None = None
        if manager is not None:
            self.engine = engine = ProbedEngine(self.table, self.source.lookups)
            self._liveness = Liveness(manager, engine, self.source.status)
        self._kept = kept
        self._environment = environment
        self.successor: Successor | None = None
        """What is to be started when `serve` has ended, if that was for an upgrade."""
        self._own_addresses = OwnAddresses(self.engine.bad_sources, settings.relay)
        self._named_addresses = NamedAddresses(settings.relay.bind)
        self._series = SessionSeries(settings.admin.max_session_series)
        self._drain = Drain(self.engine, self.source.status)
        self._draining: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._started = asyncio.Event()

    @property
    def admin_socket(self) -> Path | None:
        """Where commands reach it; None before it serves, and where no socket could be made."""
        return None if self._listeners is None else self._listeners.socket_path

    async def serve(self) -> None:
        """Runs the relay until `stop`.

        Raises:
            ConfigurationError: certificate, token or socket of the admin server cannot be used; nothing was started.
            UnavailableError: a port, or the fast path that is required, is not available; nothing was started.
        """
        parts = self._open()
        tasks = self._begin(parts)
        stopping = asyncio.create_task(self._wait_for_stop(), name="stopping")
        try:
            await parts.predecessor.until_loaded(
                self.owner.loaded, kept_sockets=bool(self._kept.ports), tasks=[stopping, *tasks]
            )
            if not stopping.done():
                await self._take_in(parts, tasks)
            await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    # A part that should never end failed, which is a defect and ends the relay.
                    task.result()
        finally:
            await self._end(parts, [stopping, *tasks])
        _log.info("relay stopped")

    def _open(self) -> _Parts:
        """Opens everything that may turn out to be unavailable, and takes over what the predecessor left."""
        files = AdminFiles.read(self.settings)
        sockets, warnings = open_sockets(self.settings.relay, self._kept.ports)
        self._sockets = sockets
        if self._liveness is not None:
            self._liveness.keep(sockets)
        try:
            listeners = AdminListeners(self.settings, self._admin_path, files, self._kept.admin)
        except UnavailableError:
            _close(sockets)
            raise
        self._listeners = listeners
        for warning in warnings:
            _log.warning(warning)
        self._own_addresses.refresh()
        self._metering = self._meter()
        predecessor = self._take_over(self._metering)
        change_log = ChangeLog(self.engine.counters)
        try:
            ports = self._open_ways(predecessor)
        except UnavailableError:
            if self._fast_path is not None:
                self._fast_path.stop(remove=self._remove_fast_path)
            if self._metering is not None:
                self._metering.abandon()
            predecessor.records.close()
            _close(sockets)
            listeners.close()
            raise
        # What serves or remembers bindings follows the table by itself.
        for reader in (IdleSessions(self.source), Growth(), self._series, change_log):
            self.table.followers.subscribe(Phase.READERS, reader)
        return _Parts(ports, predecessor, change_log, listeners)

    def _take_over(self, metering: Metering | None) -> Predecessor:
        """Counts go on where they were; bindings come back as their sessions are named."""
        return Predecessor(
            directory=self.settings.state.directory if self._keeps_state else None,
            in_memory=self._in_memory,
            sockets=self._sockets,
            table=self.table,
            counters=self.engine.counters,
            now=asyncio.get_running_loop().time,
            user_timeout_seconds=self.settings.limits.user_timeout,
            source=self.source.status,
            spans=metering,
        )

    def _open_ways(self, predecessor: Predecessor) -> Ports:
        """The ways that datagrams can go."""
        self._fast_path = start_fast_path(
            settings=self.settings,
            engine=self.engine,
            endpoints=[(one.endpoint, one.socket.getsockname()[0]) for one in self._sockets],
            later=asyncio.get_running_loop().call_soon,
            kept=predecessor.restoration,
            config=self._config,
        )
        self._ports = open_ports(
            mode=self.settings.relay.forwarder,
            engine=self.engine,
            sockets=self._sockets,
            records=predecessor.records,
            # With the fast path on `lo`, what the sockets send goes through it, and it cannot handle merged datagrams.
            merge=self._fast_path is None and merges(self.settings.relay.merge),
        )
        return self._ports

    def _begin(self, parts: _Parts) -> list[asyncio.Task[None]]:
        """All that goes on beside the datagrams."""
        parts.predecessor.begin_to_copy()
        tasks = [
            asyncio.create_task(self.source.run(), name="source"),
            asyncio.create_task(self.owner.expire_forever(), name="expiry"),
            asyncio.create_task(self._tick_forever(parts), name="every second"),
            asyncio.create_task(self._loop_delay.watch_forever(), name="loop delay"),
        ]
        if self._fast_path is not None:
            tasks.append(asyncio.create_task(self._fast_path.run_forever(), name="fast path"))
        if self._metering is not None:
            tasks.append(asyncio.create_task(self._metering.run_forever(), name="usage"))
        if self._liveness is not None:
            tasks.append(asyncio.create_task(self._liveness.run_forever(self._sockets, self._started), name=_BEATS))
        return tasks

    async def _take_in(self, parts: _Parts, tasks: list[asyncio.Task[None]]) -> None:
        """Serves datagrams, then requests."""
        await parts.ports.start()
        # Half of the time that relayd takes to start goes into this: where the loop forwards, it does so meanwhile.
        for server in await asyncio.to_thread(self._admin, parts, asyncio.get_running_loop().time):
            self._serving.append((server, asyncio.create_task(server.run_until_stopped(), name="admin")))
        tasks += [task for _, task in self._serving]
        relay = self.settings.relay
        _log.info(
            "relay started",
            version=__version__,
            bind=relay.bind,
            server_port=relay.server_port,
            client_port=relay.client_port,
            admin=self.settings.admin.bind,
            admin_socket=str(parts.listeners.socket_path),
        )
        settle()
        self._started.set()

    async def _end(self, parts: _Parts, tasks: list[asyncio.Task[None]]) -> None:
        """Ends what takes long first, the way of datagrams next, and last what knows what became of them."""
        if self._liveness is not None:
            self._liveness.stopping(for_another=self.successor is not None)
        for server, _ in self._serving:
            server.stop()
        if self._serving:
            # Requests under way may take seconds, in which datagrams are still forwarded.
            await asyncio.wait([task for _, task in self._serving])
        if self._draining is not None:
            tasks.append(self._draining)
        # Their last files too are written before.
        await _cancel(task for task in tasks if task.get_name() != _BEATS)
        parts.ports.stop()
        await _cancel(tasks)
        if self._fast_path is not None:
            self._fast_path.stop(remove=self._remove_fast_path and self.successor is None)
        if self._metering is not None:
            try:
                async with asyncio.timeout(_LAST_RECORDS_SECONDS):
                    await self._metering.close()
            except TimeoutError:
                _log.warning("the usage journal does not take its last records: the disk hangs")
            except Exception:  # noqa: BLE001 - whatever happens there, the games go on in the next process
                _log.exception("closing the usage journal failed")
        await parts.predecessor.leave()
        # Last: until then SIGTERM may still say that nobody goes on.
        parts.listeners.close(handed_on=self.successor is not None)

    def _meter(self) -> Metering | None:
        """What records usage; None where the settings want none."""
        if not self.settings.usage.interval:
            return None

        def settled(session: Session) -> bool:
            return self._fast_path is None or self._fast_path.settled(session)

        return Metering(
            settings=self.settings,
            kept=self._keeps_state,
            absorb=self._absorb,
            settled=settled,
            taker=self.source.usage,
        )

    def _admin(self, parts: _Parts, now: Callable[[], float]) -> "list[HttpServer]":
        from relayd.admin.metrics.relay_metrics import RelayMetrics  # noqa: PLC0415
        from relayd.admin.routes import create_admin  # noqa: PLC0415

        metrics = RelayMetrics(
            engine=self.engine,
            series=self._series,
            source=self.source.status,
            clock=now,
            absorb=self._absorb,
            sockets=parts.ports,
            loop_delay=self._loop_delay.histogram,
            kernel=self._fast_path,
            addresses=self._named_addresses,
            usage=self._metering.ledger if self._metering is not None else None,
        )
        app = create_admin(
            settings=self.settings,
            engine=self.engine,
            source=self.source.status,
            drain=self._drain,
            metrics=metrics,
            absorb=self._absorb,
            upgrade=self.upgrade,
            addresses=self._named_addresses,
            kernel=self._fast_path,
        )
        return parts.listeners.servers(app)

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

    def upgrade(self) -> str:
        """Ends `serve` for another program to go on: `successor` is to be started then. Returns why not, or nothing."""
        if self._environment is None:
            return "this relay is part of `relayd dev`, and cannot be replaced by itself: restart that"
        if self.engine.draining:
            return "the relay is draining, which its successor would not know of: `relayd drain --undo` first"
        if self.successor is None:
            if self._stopping.is_set():
                return "the relay is stopping, and starts no other program: start it again instead"
            try:
                self.successor = Successor(self._to_hand_on(), self._environment)
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                return f"the program cannot be started again, and this one goes on: {where}{error.strerror}"
            _log.info("replaced by the program that is installed now")
        self.stop()
        return ""

    def _to_hand_on(self) -> list[socket.socket]:
        commands = [] if self._listeners is None else self._listeners.for_successor
        return [*(one.socket for one in self._sockets), *commands]

    def terminate(self) -> None:
        """Ends `serve`: at once or, if the settings say so, when nobody plays any more; asked again, at once."""
        # During an upgrade too: then no successor is wanted either.
        self.successor = None
        if self._drain.awaited or not self.settings.drain.on_sigterm:
            self.stop()
        else:
            self._draining = asyncio.create_task(self._drain_and_stop())

    def reload(self) -> None:
        """Reads the session source again."""
        _log.info("reading the session source again")
        if self._liveness is not None:
            self._liveness.reloading()
        self.source.reload()

    async def _wait_for_stop(self) -> None:
        await self._stopping.wait()

    async def _drain_and_stop(self) -> None:
        if await self._drain.until_done(self.settings.drain.limit_seconds):
            self.stop()

    async def _tick_forever(self, parts: _Parts) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self.table.presence.awake(loop.time())
            self._absorb(())
            parts.predecessor.records.beat()
            self._own_addresses.refresh()
            self._named_addresses.refresh()
            await self._give_up_the_rest(parts.predecessor)
            parts.change_log.tick(loop.time())
            await asyncio.sleep(1.0)

    async def _give_up_the_rest(self, predecessor: Predecessor) -> None:
        """Discards what the predecessor left and no session names any more.

        Not before the session source was followed: the last good sessions, which serve until then, may lack the newest.
        Nor before the fast path has said what became of those it served.
        """
        if not self.source.status.followed or not (self._fast_path is None or self._fast_path.adopted):
            return
        await predecessor.give_up_the_rest()
        if self._metering is not None:
            async for _ in in_slices(self._metering.going_on()):
                pass

    def _load(self) -> Load:
        return Load(sum(self.table.bound), self.engine.draining, self.engine.bad_sources.own_addresses)

    def _absorb(self, sessions: Iterable[Session]) -> None:
        """Adds what was forwarded without the engine to its counts: before anybody reads them."""
        # The sessions are taken down before the totals, so that these are never less than the sum of those.
        if self._ports is not None:
            self._ports.absorb(sessions)
        if self._fast_path is not None:
            self._fast_path.absorb(sessions)


def _new_connection_id() -> int:
    return 1 + secrets.randbelow(MAX_CONNECTION_ID)


def _log_failure(error: Exception) -> None:
    """A defect in one follower of the table; the others are told all the same."""
    _log.error("a change of the table could not be followed", exc_info=error)


def _close(sockets: list[BoundSocket]) -> None:
    for one in sockets:
        one.socket.close()


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    cancelled = list(tasks)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
