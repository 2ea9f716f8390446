"""The page of metrics: every family that a relay can show, read from one that shows them all."""

from collections.abc import Iterator

from prometheus_client.core import Metric

from relayd.admin.metrics.families import Reading, all_families
from relayd.admin.metrics.process import ProcessUse
from relayd.control_plane import metrics as control_plane
from relayd.control_plane.fleet.roster import Fleet
from relayd.control_plane.store.contract import Totals
from relayd.control_plane.webhooks.delivery import Webhooks
from relayd.core.counters import Traffic
from relayd.core.engine import Engine
from relayd.core.histogram import Histogram
from relayd.core.limits import Limits
from relayd.core.session import Binding
from relayd.core.source_status import SourceStatus
from relayd.core.table import Table
from relayd.core.usage import Ledger
from relayd.core.verdict import Verdict
from relayd.core.views import InterfaceState, InterfaceView, SocketMemory
from relayd.core.wire import Port

_INTRODUCTION = """\
# Metrics

At `GET /metrics` of the admin server, in Prometheus' text format. Counters of datagrams and of sessions go on from the
relay before, also after a crash, where `state.directory` keeps them; the others begin at 0 with the process ([what is
exact](design.md#what-is-exact-and-what-is-not)). Bytes are those of the UDP payload as it arrived.

This page is written by `docs/generate.py` from `relayd/admin/metrics`.

| metric | type | labels | |
|---|---|---|---|
"""

_CONTROL_PLANE = """
## Of the control plane

At `GET /metrics` of the [control plane](control-plane.md), without a key; counters begin with the process. Written from
`relayd/control_plane/metrics.py`.

| metric | type | labels | |
|---|---|---|---|
"""


class _EveryKernel:
    up = True
    bindings_served = 1
    lost = 1
    interface_views = (InterfaceView("eth0", InterfaceState.FORWARDS),)

    def by_kernel(self, _port: Port, _verdict: Verdict) -> int:
        """As if it had decided everything once."""
        return 1

    def run_times(self) -> Histogram:
        """As if it measured."""
        return Histogram((1.0,))

    def conflicts(self, _binding: Binding) -> int:
        """No metric shows them."""
        return 0


def families() -> Iterator[Metric]:
    """Every family, with every label it has."""
    status = SourceStatus()
    status.fresh_at = 0.0
    return all_families(
        Reading(
            engine=Engine(Table(Limits(), lambda: 1)),
            sessions=[("other", Traffic())],
            source=status,
            now=0.0,
            socket_memory=[(port, SocketMemory(0, 0, 0, 0, 0)) for port in Port],
            delays=Histogram((1.0,)),
            loop_delay=Histogram((1.0,)),
            addresses={"203.0.113.7": True},
            reachable=True,
            kernel=_EveryKernel(),
            usage=Ledger("docs"),
            log_lines_lost=0,
            log_lines_waiting=0,
            process=ProcessUse(0.0, 0),
            started_at=0.0,
        )
    )


def metrics_page() -> str:
    """The whole page."""
    rows = "".join(f"{row}\n" for row in map(_row, families()))
    return _INTRODUCTION + rows + _CONTROL_PLANE + "".join(f"{row}\n" for row in map(_row, _of_control_plane()))


def _of_control_plane() -> Iterator[Metric]:
    fleet, webhooks = Fleet(()), Webhooks.OUTCOMES
    return control_plane.all_families(
        control_plane.Reading(Totals(0, 0), fleet.by_status(0.0), dict.fromkeys(webhooks, 0), log_lines_lost=0)
    )


def _row(family: Metric) -> str:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    values: dict[str, list[str]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if label != "le" and value not in values.setdefault(label, []):
                values[label].append(value)
    labels = ", ".join(f"`{label}`{_listed(label, found)}" for label, found in values.items())
    return f"| `{name}` | {family.type} | {labels or '–'} | {family.documentation} |"


def _listed(label: str, values: list[str]) -> str:
    if label == "verdict":
        return " ([all](verdicts.md))"
    return "" if label in ("session", "version") else f" ({', '.join(values)})"
