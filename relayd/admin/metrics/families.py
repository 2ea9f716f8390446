"""The families of metrics, each from what was read of a relay."""

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from relayd import __version__
from relayd.admin.metrics.process import ProcessUse
from relayd.core.counters import Traffic
from relayd.core.engine import Engine
from relayd.core.histogram import Histogram
from relayd.core.source_status import SourceStatus
from relayd.core.usage import Ledger
from relayd.core.verdict import Verdict
from relayd.core.views import InterfaceState, KernelView, SocketMemory
from relayd.core.wire import Port, State

_DIRECTIONS = ("to_host", "to_player")


class Reading(NamedTuple):
    """What was read of a relay; all but the sessions are plain numbers, which may be read at any time."""

    engine: Engine
    sessions: list[tuple[str, Traffic]]
    source: SourceStatus
    now: float
    """Seconds, on the clock that the source is used with."""
    socket_memory: list[tuple[Port, SocketMemory]]
    delays: Histogram | None
    loop_delay: Histogram
    addresses: dict[str, bool]
    """Those that relay.bind names one by one → whether this host has each."""
    reachable: bool
    """Whether the relay can be reached at all."""
    kernel: KernelView | None
    usage: Ledger | None
    log_lines_lost: int
    log_lines_waiting: int
    process: ProcessUse
    started_at: float
    """Unix time at which the relay began to serve."""


def all_families(reading: Reading) -> Iterator[Metric]:
    """All metrics of a relay."""
    yield from _datagrams(reading.engine)
    yield from _sessions(reading.sessions)
    ready = reading.engine.table.loaded and reading.reachable
    yield GaugeMetricFamily("relayd_ready", "1 while there are sessions to serve, as /readyz says.", value=ready)
    yield from _table(reading.engine)
    yield from _sockets(reading.socket_memory)
    yield from _addresses(reading.addresses)
    yield from _delays(reading)
    yield _histogram(
        "relayd_loop_delay_seconds", "How late the event loop came to a timer, ten times a second.", reading.loop_delay
    )
    yield from _source(reading.source, reading.now)
    yield GaugeMetricFamily("relayd_draining", "1 while new sessions are refused.", value=reading.engine.draining)
    yield from _fast_path(reading.kernel)
    if reading.usage is not None:
        yield from _usage(reading.usage)
    yield CounterMetricFamily(
        "relayd_log_lines_lost",
        "Lines of the log that were lost: nobody read them, or there was no room.",
        value=reading.log_lines_lost,
    )
    yield GaugeMetricFamily(
        "relayd_log_lines_waiting", "Lines of the log that are not written yet.", value=reading.log_lines_waiting
    )
    yield from _process(reading.process, reading.started_at)
    info = GaugeMetricFamily("relayd_build_info", "The running version.", labels=["version"])
    info.add_metric([__version__], 1)
    yield info


def _datagrams(engine: Engine) -> Iterator[Metric]:
    counters = engine.counters
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


def _sessions(sessions: list[tuple[str, Traffic]]) -> Iterator[Metric]:
    datagrams = CounterMetricFamily(
        "relayd_session_datagrams",
        'Datagrams forwarded, by session; those beyond admin.max_session_series as "other".',
        labels=["session", "direction"],
    )
    size = CounterMetricFamily(
        "relayd_session_bytes",
        "UDP payload bytes of forwarded datagrams as they arrived, by the same labels.",
        labels=["session", "direction"],
    )
    for session_id, traffic in sessions:
        for direction in _DIRECTIONS:
            datagrams.add_metric([session_id, direction], getattr(traffic, f"{direction}_datagrams"))
            size.add_metric([session_id, direction], getattr(traffic, f"{direction}_bytes"))
    return iter((datagrams, size))


def _table(engine: Engine) -> Iterator[Metric]:
    table = engine.table
    yield GaugeMetricFamily("relayd_sessions", "Sessions in the table.", value=len(table.sessions))
    yield GaugeMetricFamily("relayd_active_sessions", "Sessions with somebody bound.", value=table.active_sessions)
    users = GaugeMetricFamily(
        "relayd_users",
        "Users: authorized in all, and bound as host or as player.",
        labels=["state"],
    )
    users.add_metric(["authorized"], table.users)
    users.add_metric(["host"], table.bound[Port.SERVER])
    users.add_metric(["player"], table.bound[Port.CLIENT])
    yield users
    if table.limits.max_bound_users:
        yield GaugeMetricFamily(
            "relayd_max_bound_users",
            "Users that may be bound at once, limits.max_bound_users; not there where that has no bound.",
            value=table.limits.max_bound_users,
        )


def _sockets(memory: list[tuple[Port, SocketMemory]]) -> Iterator[Metric]:
    overflows = CounterMetricFamily(
        "relayd_receive_queue_overflows",
        "Datagrams that the kernel dropped because a socket's receive queue was full; in no other count.",
        labels=["port"],
    )
    queued = GaugeMetricFamily(
        "relayd_socket_queued_bytes",
        "Memory of what waits in the sockets' queues, as the kernel accounts for it.",
        labels=["port", "queue"],
    )
    limit = GaugeMetricFamily(
        "relayd_socket_buffer_bytes", "Most that the sockets' queues may hold.", labels=["port", "queue"]
    )
    for port in Port:
        mine = [one for of_port, one in memory if of_port is port]
        overflows.add_metric([port.label], sum(one.receive_overflows for one in mine))
        queued.add_metric([port.label, "receive"], sum(one.receive_queued_bytes for one in mine))
        queued.add_metric([port.label, "send"], sum(one.send_queued_bytes for one in mine))
        limit.add_metric([port.label, "receive"], sum(one.receive_buffer_bytes for one in mine))
        limit.add_metric([port.label, "send"], sum(one.send_buffer_bytes for one in mine))
    return iter((overflows, queued, limit))


def _addresses(addresses: dict[str, bool]) -> Iterator[Metric]:
    """None where the relay is bound to every address of the host."""
    up = GaugeMetricFamily(
        "relayd_bind_address_up", "1 while this host has an address that relay.bind names.", labels=["address"]
    )
    for address, here in addresses.items():
        up.add_metric([address], here)
    if addresses:
        yield up


def _delays(reading: Reading) -> Iterator[Metric]:
    family = HistogramMetricFamily(
        "relayd_added_latency_seconds",
        "Path sockets: from the kernel taking a datagram in to relayd having sent it on; of those taken in together,"
        " the one that waited longest. Path fast_path: how long the kernel program ran for one in 1,024; drivers do not"
        " tell it when a datagram came in.",
        labels=["path"],
    )
    run_times = reading.kernel.run_times() if reading.kernel is not None else None
    for path, histogram in (("sockets", reading.delays), ("fast_path", run_times)):
        if histogram is not None:
            family.add_metric([path], _buckets(histogram), histogram.sum_seconds)
    if family.samples:
        yield family


def _histogram(name: str, documentation: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, documentation, buckets=_buckets(histogram), sum_value=histogram.sum_seconds)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, histogram.bounds_seconds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))


def _source(source: SourceStatus, now: float) -> Iterator[Metric]:
    if source.fresh_at is not None:
        yield GaugeMetricFamily(
            "relayd_source_age_seconds",
            "Seconds since the table was last known to agree with the session source.",
            value=max(0.0, now - source.fresh_at),
        )
    yield CounterMetricFamily(
        "relayd_source_failures", "Times the source was unreadable, or its state refused.", value=source.failures
    )


def _fast_path(kernel: KernelView | None) -> Iterator[Metric]:
    up = kernel is not None and kernel.up
    yield GaugeMetricFamily(
        "relayd_fast_path_up", "1 while the kernel forwards on every interface of the settings.", value=up
    )
    if kernel is None:
        return
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
    yield CounterMetricFamily(
        "relayd_fast_path_lost",
        "Of what the kernel decided to forward or answer, datagrams that an interface lost on their way out, as it"
        " counts them itself.",
        value=kernel.lost,
    )
    states = GaugeMetricFamily(
        "relayd_fast_path_interface",
        "1 for the state an interface of the fast path is in: the kernel forwards there; it loses what the kernel"
        " sends, so that the sockets serve; it is not there; the program is not on it.",
        labels=["interface", "state"],
    )
    for one in kernel.interface_views:
        for state in InterfaceState:
            states.add_metric([one.name, state.value], state is one.state)
    yield states


def _process(process: ProcessUse, started_at: float) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "relayd_process_cpu_seconds",
        "Processor time of this process; what the kernel fast path takes is not in it.",
        value=process.cpu_seconds,
    )
    yield GaugeMetricFamily(
        "relayd_process_resident_memory_bytes", "Memory of this process.", value=process.resident_bytes
    )
    yield GaugeMetricFamily(
        "relayd_start_time_seconds", "Unix time at which this process began to serve.", value=started_at
    )


def _usage(ledger: Ledger) -> Iterator[Metric]:
    records = CounterMetricFamily(
        "relayd_usage_records",
        "Usage records: made; taken by the control plane, or written to the file; refused by the control plane, and"
        " written to the file; merged into later ones; lost, for too many waited.",
        labels=["fate"],
    )
    for fate in ("made", "taken", "refused", "merged", "lost"):
        records.add_metric([fate], getattr(ledger, fate))
    yield records
    yield GaugeMetricFamily("relayd_usage_unsent", "Usage records that nobody has taken yet.", value=len(ledger.unsent))
    yield GaugeMetricFamily(
        "relayd_usage_journal_up", "1 while what the usage records say would outlive a crash.", value=ledger.kept
    )
