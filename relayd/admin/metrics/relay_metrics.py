"""All metrics of a relay, in Prometheus' text format."""

import asyncio
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from relayd.admin.metrics.families import Reading, all_families
from relayd.admin.metrics.process import process_use
from relayd.admin.metrics.series import SessionSeries
from relayd.core.engine import Engine
from relayd.core.histogram import Histogram
from relayd.core.source_status import SourceStatus
from relayd.core.usage import Ledger
from relayd.core.views import Absorb, AddressView, KernelView, SocketView
from relayd.log import lines_lost, lines_waiting


class RelayMetrics:
    """All metrics of a relay.

    The sessions are read in one go on the event loop, so that they and the totals belong together; to write them out
    takes ten times as long, and is done in a thread.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        series: SessionSeries,
        source: SourceStatus,
        clock: Callable[[], float],
        absorb: Absorb,
        sockets: SocketView,
        loop_delay: Histogram,
        addresses: AddressView,
        kernel: KernelView | None = None,
        usage: Ledger | None = None,
    ) -> None:
        self._engine = engine
        self._series = series
        self._source = source
        self._clock = clock
        self._absorb = absorb
        self._sockets = sockets
        self._loop_delay = loop_delay
        self._addresses = addresses
        self._kernel = kernel
        self._usage = usage
        self._started_at = time.time()

    async def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return await asyncio.to_thread(_render, self._read())

    def _read(self) -> Reading:
        self._absorb(self._series.sessions())
        return Reading(
            engine=self._engine,
            sessions=list(self._series.read(self._engine.forwarded())),
            source=self._source,
            now=self._clock(),
            socket_memory=self._sockets.memory(),
            delays=self._sockets.delays(),
            loop_delay=self._loop_delay.copy(),
            addresses=dict(self._addresses.up),
            reachable=self._addresses.reachable,
            kernel=self._kernel,
            usage=self._usage,
            log_lines_lost=lines_lost(),
            log_lines_waiting=lines_waiting(),
            process=process_use(),
            started_at=self._started_at,
        )


class _Reading(Collector):
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def describe(self) -> list[Metric]:
        """None: a registry would otherwise collect once more on registering, only to see the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The current values."""
        return all_families(self._reading)


def _render(reading: Reading) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reading(reading))
    return generate_latest(registry)
