"""Metrics of the control plane, in Prometheus' text format."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from relayd import __version__
from relayd.control_plane.store.contract import Totals


class Reading(NamedTuple):
    """What was read of a control plane."""

    totals: Totals | None
    """None while the database cannot be read."""
    nodes: Mapping[str, int]
    """Relays by status."""
    deliveries: Mapping[str, int]
    """Calls of webhooks by what became of them."""
    log_lines_lost: int


class _Reading(Collector):
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def describe(self) -> list[Metric]:
        """None: a registry would otherwise collect once more on registering, only to see the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The values."""
        return all_families(self._reading)


def all_families(reading: Reading) -> Iterator[Metric]:
    """All metrics of a control plane."""
    build = GaugeMetricFamily("relayd_control_plane_build_info", "1; which relayd this is.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build
    yield GaugeMetricFamily(
        "relayd_control_plane_database_up", "1 while the database can be read.", value=reading.totals is not None
    )
    if reading.totals is not None:
        yield GaugeMetricFamily(
            "relayd_control_plane_sessions", "Sessions there are, failed ones too.", value=reading.totals.sessions
        )
        yield GaugeMetricFamily(
            "relayd_control_plane_webhooks_waiting",
            "Calls of webhooks that are under way or due, now or later.",
            value=reading.totals.webhooks_waiting,
        )
    nodes = GaugeMetricFamily(
        "relayd_nodes", "Relays known: silent ones were not heard for 10 s, and get no new session.", labels=["status"]
    )
    for status, relays in reading.nodes.items():
        nodes.add_metric([status], relays)
    yield nodes
    deliveries = CounterMetricFamily(
        "relayd_webhook_deliveries",
        "Calls of webhooks: delivered; failed, and made again; given up after an hour of that; refused, for the address"
        " may not be called.",
        labels=["outcome"],
    )
    for outcome, calls in reading.deliveries.items():
        deliveries.add_metric([outcome], calls)
    yield deliveries
    yield CounterMetricFamily(
        "relayd_log_lines_lost",
        "Lines of the log that were lost: nobody read them, or there was no room.",
        value=reading.log_lines_lost,
    )


def render(reading: Reading) -> bytes:
    """As Prometheus reads it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reading(reading))
    return generate_latest(registry)
