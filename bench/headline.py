"""The few figures out of all that the chart and the README show."""

from collections.abc import Mapping
from typing import NamedTuple

from bench.ranking import in_order
from bench.results import Figure, Results, Series


class Headline(NamedTuple):
    """One figure of all subjects that have it."""

    title: str
    scenario: str
    metric: str
    point: str

    def by_subject(self, results: Results) -> Mapping[str, Series]:
        """Its series, by subject; empty if it was not measured."""
        return {
            series.subject: series
            for series in results.series
            if series.figure == Figure(self.scenario, series.subject, self.metric, self.point)
        }


class Panel(NamedTuple):
    """Headlines of one unit that are read together."""

    title: str
    headlines: tuple[Headline, ...]


PANELS = (
    Panel("Highest rate", (Headline("highest rate", "throughput", "highest rate", ""),)),
    Panel(
        "Processor time per datagram, 50k/s",
        (Headline("processor time per datagram, 50k/s", "cost", "CPU per datagram", "50k/s"),),
    ),
    Panel(
        "Added delay at half load",
        (
            Headline("added delay at half load, p50", "latency", "p50", "half load"),
            Headline("added delay at half load, p99", "latency", "p99", "half load"),
        ),
    ),
)


def headlines() -> list[Headline]:
    """All of them."""
    return [headline for panel in PANELS for headline in panel.headlines]


def measured_panels(results: Results) -> list[Panel]:
    """Those of which at least one figure is in the results."""
    return [panel for panel in PANELS if any(headline.by_subject(results) for headline in panel.headlines)]


def subjects(results: Results) -> list[str]:
    """All that have at least one headline, in the order they are always shown."""
    return in_order(subject for headline in headlines() for subject in headline.by_subject(results))


def unmeasured(results: Results) -> list[Headline]:
    """Those whose scenario gave figures, but not this one: a scenario and this file call it by different names."""
    scenarios = {series.scenario for series in results.series}
    return [one for one in headlines() if one.scenario in scenarios and not one.by_subject(results)]
