"""How the whole relay stands, for `GET /v1/status`: totals since it began, table, source, fast path."""

import uuid

from relayd import __version__
from relayd.admin.answers import (
    Count,
    FastPathInterface,
    FastPathStatus,
    Program,
    RelayStatus,
    SourceState,
    UsersStatus,
)
from relayd.core.engine import Engine
from relayd.core.source_status import SourceStatus
from relayd.core.verdict import Verdict
from relayd.core.views import KernelView
from relayd.core.wire import Port

_INSTANCE = uuid.uuid4().hex


def describe_relay(engine: Engine, source: SourceStatus, kernel: KernelView | None, now: float) -> RelayStatus:
    """All of it.

    Args:
        engine: its engine; what was forwarded without it is in its counters already.
        source: how the session source stands.
        kernel: the fast path.
        now: seconds, on the event loop's clock.
    """
    table = engine.table
    return RelayStatus(
        version=__version__,
        instance=_INSTANCE,
        time_seconds=now,
        draining=engine.draining,
        ready=table.loaded,
        sessions=len(table.sessions),
        active_sessions=table.active_sessions,
        users=UsersStatus(
            authorized=table.users,
            host=table.bound[Port.SERVER],
            player=table.bound[Port.CLIENT],
        ),
        source=SourceState(
            age_seconds=None if source.fresh_at is None else round(max(0.0, now - source.fresh_at), 3),
            problem=source.problem,
            failures=source.failures,
        ),
        ports={port.label: _counted(engine, port) for port in Port},
        fast_path=None if kernel is None else _describe_kernel(kernel),
    )


def describe_program() -> Program:
    """Which program this is, and which run of it."""
    return Program(version=__version__, instance=_INSTANCE)


def _describe_kernel(kernel: KernelView) -> FastPathStatus:
    return FastPathStatus(
        up=kernel.up,
        bindings=kernel.bindings_served,
        forwarded=sum(kernel.by_kernel(port, Verdict.FORWARDED) for port in Port),
        lost=kernel.lost,
        interfaces=[
            FastPathInterface(
                name=one.name, state=one.state.value, lost=one.lost, problem=one.problem, way_out=one.way_out
            )
            for one in kernel.interface_views
        ],
    )


def _counted(engine: Engine, port: Port) -> dict[str, Count]:
    """Verdicts that there were."""
    datagrams, sizes = engine.counters.datagrams[port], engine.counters.bytes[port]
    return {
        verdict.label: Count(datagrams=datagrams[verdict], bytes=sizes[verdict])
        for verdict in Verdict
        if datagrams[verdict]
    }
