"""Results as Markdown: per scenario a table with the subjects as rows and the figures as columns."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bench.numbers import shown, shown_series
from bench.ranking import OURS, best_peer, in_order, ratio
from bench.results import Better, Results, Series

_DIRECTION: dict[Better, str] = {"lower": ", lower is better", "higher": ", higher is better", "none": ""}


class Column(NamedTuple):
    """One figure of all subjects."""

    title: str
    by_subject: Mapping[str, Series]


def page(results: Results) -> str:
    """All tables, and what they were measured on."""
    return "\n".join(_lines(results)) + "\n"


def conditions(results: Results) -> str:
    """On what, when and how it was measured, and how the tables are to be read."""
    rounds = f"{results.rounds} round{'s' if results.rounds != 1 else ''}"
    discarded = f" after {results.discarded_rounds} that was discarded" if results.discarded_rounds else ""
    versions = ", ".join(f"{name} {version}" for name, version in results.machine.versions.items())
    quick = " A quick run, which shows that all works: its figures are rough." if results.quick else ""
    return (
        f"Measured on {results.day} on {results.machine}; {versions}. Medians of {rounds}{discarded},"
        f" windows of {results.window_seconds:g} s; in brackets the lowest and the highest value.{quick}"
    )


def table(columns: Sequence[Column]) -> Iterator[str]:
    """The best peer is bold; below the subjects, relayd's figures as multiples of the best peer's."""
    subjects = in_order(subject for column in columns for subject in column.by_subject)
    yield _row(["", *(column.title for column in columns)])
    yield "|---|" + "--:|" * len(columns)
    for subject in subjects:
        yield _row([subject, *(_cell(column.by_subject, subject) for column in columns)])
    for ours in OURS:
        ratios = [ratio(column.by_subject, ours) for column in columns]
        if any(found is not None for found in ratios):
            cells = ["" if found is None else f"{shown(found)} ×" for found in ratios]
            yield _row([f"*{ours} : best peer*", *cells])


def column(name: str, by_subject: Mapping[str, Series]) -> Column:
    """With unit and direction in the title; ``by_subject`` has at least one series."""
    series = next(iter(by_subject.values()))
    return Column(f"{name}<br>{series.unit}{_DIRECTION[series.better]}", by_subject)


def _lines(results: Results) -> Iterator[str]:
    yield "# Measured"
    yield ""
    yield conditions(results)
    yield ""
    yield "**Bold**: the best peer. The same again:"
    yield ""
    yield "```"
    yield from results.commands
    yield "```"
    for note in results.notes:
        yield ""
        yield note
    for scenario in results.scenarios():
        yield ""
        yield f"## {scenario}"
        for columns in _tables([series for series in results.series if series.scenario == scenario]):
            yield ""
            yield from table(columns)
        yield from _left_out(results, scenario)


def _left_out(results: Results, scenario: str) -> Iterator[str]:
    for left_out in results.left_out:
        if left_out.scenario == scenario:
            yield ""
            yield f"Left out: {left_out.subject or 'the scenario'}: {left_out.reason}."


def _tables(series: Sequence[Series]) -> Iterator[list[Column]]:
    """Metrics with one point share a table; one with several has its own, with a column for each point."""
    columns: dict[str, list[Column]] = {}
    for metric, point in dict.fromkeys((one.metric, one.point) for one in series):
        columns.setdefault(metric, []).append(_column(series, metric, point))
    single = [of_metric[0] for of_metric in columns.values() if len(of_metric) == 1]
    if single:
        yield single
    yield from (of_metric for of_metric in columns.values() if len(of_metric) > 1)


def _column(series: Sequence[Series], metric: str, point: str) -> Column:
    found = {one.subject: one for one in series if (one.metric, one.point) == (metric, point)}
    return column(f"{metric}, {point}" if point else metric, found)


def _cell(by_subject: Mapping[str, Series], subject: str) -> str:
    if subject not in by_subject:
        return "–"
    text = shown_series(by_subject[subject].values)
    return f"**{text}**" if subject == best_peer(by_subject) else text


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
