"""Prometheus metrics, read from the engine's own counts when they are asked for."""

import asyncio
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from relayd import __version__
from relayd.core.counters import Traffic
from relayd.core.engine import Engine
from relayd.core.events import Event, EventKind
from relayd.core.kernel_view import Absorb, KernelView
from relayd.core.session import Session
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, State
from relayd.edge.source import SourceStatus

OTHER_SESSIONS = "other"
"""The label value under which sessions without series of their own are summed."""

_DIRECTIONS = ("to_host", "to_player")


class SessionSeries:
    """Which sessions have time series of their own: the first ``most`` that are alive and were ever bound.

    A session keeps its place until it ends. All others are the difference to the relay's totals, so that no counter
    ever goes back and nothing has to be summed over the whole table.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._own: dict[str, Session] = {}
        self._ended = Traffic()

    def event(self, event: Event) -> None:
        """Follows the table."""
        session = event.session
        if event.kind is EventKind.USER_BOUND:
            if len(self._own) < self._most and session.session_id != OTHER_SESSIONS:
                self._own.setdefault(session.session_id, session)
        elif event.kind in (EventKind.SESSION_REMOVED, EventKind.SESSION_IDLE):
            ended = self._own.pop(session.session_id, None)
            if ended is not None:
                self._ended.add(ended.traffic())

    def sessions(self) -> list[Session]:
        """Those with series of their own."""
        return list(self._own.values())

    def read(self, total: Traffic) -> Iterator[tuple[str, Traffic]]:
        """Label and counts of each series, the sum of the others last.

        Args:
            total: what the whole relay forwarded.
        """
        told = Traffic()
        told.add(self._ended)
        for session_id, session in self._own.items():
            traffic = session.traffic()
            told.add(traffic)
            yield session_id, traffic
        other = Traffic()
        other.to_host_datagrams = total.to_host_datagrams - told.to_host_datagrams
        other.to_host_bytes = total.to_host_bytes - told.to_host_bytes
        other.to_player_datagrams = total.to_player_datagrams - told.to_player_datagrams
        other.to_player_bytes = total.to_player_bytes - told.to_player_bytes
        yield OTHER_SESSIONS, other


class RelayMetrics:
    """All metrics of a relay.

    The sessions are read in one go on the event loop, so that they and the totals belong together; to write them out
    takes ten times as long, and is done in a thread.
    """

    def __init__(
        self,
        engine: Engine,
        series: SessionSeries,
        source: SourceStatus,
        clock: Callable[[], float],
        absorb: Absorb,
        kernel: KernelView | None = None,
    ) -> None:
        self._engine = engine
        self._series = series
        self._source = source
        self._clock = clock
        self._absorb = absorb
        self._kernel = kernel

    async def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        self._absorb(self._series.sessions())
        sessions = list(self._series.read(self._engine.forwarded()))
        reading = _Reading(self._engine, sessions, self._source, self._clock(), self._kernel)
        return await asyncio.to_thread(_render, reading)


def _render(reading: "_Reading") -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(reading)
    return generate_latest(registry)


class _Reading(Collector):
    """What was read of a relay; all but the sessions are plain numbers, which may be read at any time."""

    def __init__(
        self,
        engine: Engine,
        sessions: list[tuple[str, Traffic]],
        source: SourceStatus,
        now: float,
        kernel: KernelView | None,
    ) -> None:
        self._engine = engine
        self._sessions_read = sessions
        self._source = source
        self._now = now
        self._kernel = kernel

    def describe(self) -> list[Metric]:
        """None: a registry would otherwise collect once more on registering, only to see the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The current values."""
        yield from self._datagrams()
        yield from self._sessions()
        yield from self._table()
        yield from self._health()

    def _datagrams(self) -> Iterator[Metric]:
        counters = self._engine.counters
        datagrams = CounterMetricFamily(
            "relayd_datagrams", "Datagrams that arrived, by port and what became of them.", labels=["port", "verdict"]
        )
        size = CounterMetricFamily(
            "relayd_bytes", "UDP payload bytes that arrived, by the same labels.", labels=["port", "verdict"]
        )
        told = CounterMetricFamily(
            "relayd_refusals_told", "Refused datagrams that were answered with a state.", labels=["port", "state"]
        )
        for port in Port:
            for verdict in Verdict:
                datagrams.add_metric([port.label, verdict.label], counters.datagrams[port][verdict])
                size.add_metric([port.label, verdict.label], counters.bytes[port][verdict])
            for state in (State.CHECKING, State.INVALID, State.SESSION_TIMEOUT, State.ERROR):
                told.add_metric([port.label, state.name.lower()], counters.refusals_told[port][state])
        return iter((datagrams, size, told))

    def _sessions(self) -> Iterator[Metric]:
        datagrams = CounterMetricFamily(
            "relayd_session_datagrams", "Datagrams forwarded, by session.", labels=["session", "direction"]
        )
        size = CounterMetricFamily(
            "relayd_session_bytes",
            "UDP payload bytes of forwarded datagrams as they arrived, by session.",
            labels=["session", "direction"],
        )
        for session_id, traffic in self._sessions_read:
            for direction in _DIRECTIONS:
                datagrams.add_metric([session_id, direction], getattr(traffic, f"{direction}_datagrams"))
                size.add_metric([session_id, direction], getattr(traffic, f"{direction}_bytes"))
        return iter((datagrams, size))

    def _table(self) -> Iterator[Metric]:
        table = self._engine.table
        yield GaugeMetricFamily("relayd_sessions", "Sessions in the table.", value=len(table.sessions))
        users = GaugeMetricFamily(
            "relayd_users",
            "Users: authorized in all, and bound as host or as player.",
            labels=["state"],
        )
        users.add_metric(["authorized"], table.users)
        users.add_metric(["host"], table.bound[Port.SERVER])
        users.add_metric(["player"], table.bound[Port.CLIENT])
        yield users

    def _fast_path(self, kernel: KernelView) -> Iterator[Metric]:
        decided = CounterMetricFamily(
            "relayd_fast_path_datagrams",
            "Of relayd_datagrams_total, those that the kernel decided.",
            labels=["port", "verdict"],
        )
        for port in Port:
            for verdict in Verdict:
                count = kernel.by_kernel(port, verdict)
                if count:
                    decided.add_metric([port.label, verdict.label], count)
        yield decided
        yield GaugeMetricFamily(
            "relayd_fast_path_bindings", "Bindings that the kernel serves.", value=kernel.bindings_served
        )

    def _health(self) -> Iterator[Metric]:
        if self._source.fresh_at is not None:
            yield GaugeMetricFamily(
                "relayd_source_age_seconds",
                "Seconds since the table was last known to agree with the session source.",
                value=max(0.0, self._now - self._source.fresh_at),
            )
        yield CounterMetricFamily(
            "relayd_source_failures", "Times the source was unreadable or not believed.", value=self._source.failures
        )
        yield GaugeMetricFamily("relayd_draining", "1 while new sessions are refused.", value=self._engine.draining)
        up = self._kernel is not None and self._kernel.up
        yield GaugeMetricFamily("relayd_fast_path_up", "1 while the kernel forwards.", value=up)
        if self._kernel is not None:
            yield from self._fast_path(self._kernel)
        info = GaugeMetricFamily("relayd_build_info", "The running version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
