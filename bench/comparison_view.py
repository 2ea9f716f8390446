"""A comparison as a table for people."""

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from bench.compare import FEWEST_VALUES, SMALLEST_CHANGE, Change, Comparison, Word
from bench.numbers import shown_series
from bench.results import Figure

_STYLE = {Word.BETTER: "green", Word.WORSE: "red"}


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints warnings, what changed beyond noise, and how much did not; of two machines, that they are two."""
    if comparison.other_machine:
        differences = "; ".join(comparison.other_machine)
        console.print(escape(f"Two machines cannot be compared: {differences}. Measure both versions on one of them."))
        return
    for warning in comparison.warnings:
        console.print(f"Careful: {escape(warning)}")
    changed = comparison.beyond_noise()
    if changed:
        console.print(_table(changed))
    else:
        console.print("Nothing changed beyond noise.")
    console.print(
        f"{comparison.count(Word.BETTER)} better, {comparison.count(Word.WORSE)} worse,"
        f" {comparison.count(Word.WITHIN_NOISE)} within noise. Beyond noise: the medians differ by more than both"
        f" spreads (highest minus lowest) together, and by more than {SMALLEST_CHANGE:.0%}."
    )
    if unknown := comparison.count(Word.UNKNOWN):
        console.print(f"{unknown} say nothing: fewer than {FEWEST_VALUES} values on a side, or another unit.")
    _print_missing(comparison.only_before, "before", console)
    _print_missing(comparison.only_after, "after", console)


def _table(changes: list[Change]) -> Table:
    titles = ("scenario", "subject", "figure", "before", "after", "change")
    table = Table(*(Column(title, overflow="fold") for title in titles), box=None)
    for change in changes:
        figure = change.figure
        name = f"{figure.metric}, {figure.point}" if figure.point else figure.metric
        table.add_row(
            figure.scenario,
            escape(figure.subject),
            escape(f"{name}, {change.before.unit}"),
            shown_series(change.before.values),
            shown_series(change.after.values),
            f"{change.percent} {change.word.value}".strip(),
            style=_STYLE.get(change.word, ""),
        )
    return table


def _print_missing(figures: list[Figure], side: str, console: Console) -> None:
    """Whole subjects, as a subject that is left out takes all of its figures with it."""
    if figures:
        names = dict.fromkeys(f"{figure.scenario}, {figure.subject}" for figure in figures)
        console.print(escape(f"Only {side}: {len(figures)} figures, of {'; '.join(names)}."))
