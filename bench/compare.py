"""What changed from one file of results to another of the same machine, beyond noise.

A figure has changed if its medians differ by more than both spreads together (a spread is the highest minus the lowest
value), and by more than 3 % of the larger one. Pure noise of a normal distribution passes the first condition about
once in 70 figures with three values on both sides, once in 10,000 with five, but once in 8 with two (simulated); so
nothing is said of a figure with fewer than three.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from bench.ranking import PEERS
from bench.results import Better, Figure, Results, Series

SMALLEST_CHANGE = 0.03
FEWEST_VALUES = 3


class Word(Enum):
    """What became of a figure."""

    BETTER = "better"
    WORSE = "worse"
    HIGHER = "higher"
    LOWER = "lower"
    WITHIN_NOISE = "within noise"
    UNKNOWN = "unknown"
    """Too few values on a side, or another unit."""


class Change(NamedTuple):
    """One figure in both files."""

    figure: Figure
    before: Series
    after: Series
    word: Word

    @property
    def percent(self) -> str:
        """The change of the median, with its sign; empty where there was nothing before."""
        if self.before.median == 0:
            return ""
        return f"{(self.after.median - self.before.median) / abs(self.before.median):+.1%}"


class Comparison(NamedTuple):
    """All of two files."""

    changes: list[Change]
    only_before: list[Figure]
    only_after: list[Figure]
    warnings: list[str]
    """Why the two may not be comparable."""
    other_machine: list[str]
    """In what the machines differ: then figures differ for that, and no change is told."""

    def beyond_noise(self) -> list[Change]:
        """What changed."""
        return [change for change in self.changes if change.word not in (Word.WITHIN_NOISE, Word.UNKNOWN)]

    def count(self, word: Word) -> int:
        """How many figures became that."""
        return sum(change.word is word for change in self.changes)


def compare(before: Results, after: Results) -> Comparison:
    """Compares figure by figure, unless the machines differ."""
    other_machine = list(_other_machine(before, after))
    old = {series.figure: series for series in before.series}
    new = {series.figure: series for series in after.series}
    changes = [
        Change(figure, old[figure], new[figure], judge(old[figure], new[figure]))
        for figure in old
        if figure in new and not other_machine
    ]
    return Comparison(
        changes,
        [figure for figure in old if figure not in new],
        [figure for figure in new if figure not in old],
        list(_differences(before, after)) or list(_moved_peers(changes)),
        other_machine,
    )


def judge(before: Series, after: Series) -> Word:
    """The rule of this module."""
    if before.unit != after.unit or min(len(before.values), len(after.values)) < FEWEST_VALUES:
        return Word.UNKNOWN
    difference = after.median - before.median
    noise = before.spread + after.spread
    if abs(difference) <= max(noise, SMALLEST_CHANGE * max(abs(before.median), abs(after.median))):
        return Word.WITHIN_NOISE
    return _word(difference, after.better)


def _word(difference: float, better: Better) -> Word:
    if better == "none":
        return Word.HIGHER if difference > 0 else Word.LOWER
    return Word.BETTER if (difference < 0) == (better == "lower") else Word.WORSE


def _other_machine(before: Results, after: Results) -> Iterator[str]:
    for what in ("processor", "cores"):
        one, other = getattr(before.machine, what), getattr(after.machine, what)
        if one != other:
            yield f"{what} {one} before, {other} after"


def _differences(before: Results, after: Results) -> Iterator[str]:
    for what in ("kernel", "python"):
        one, other = getattr(before.machine, what), getattr(after.machine, what)
        if one != other:
            yield f"The versions differ: {what} {one} before, {other} after."
    for program in dict.fromkeys((*before.machine.versions, *after.machine.versions)):
        one, other = (results.machine.versions.get(program, "none") for results in (before, after))
        if one != other and program != "relayd":
            yield f"The versions differ: {program} {one} before, {other} after."
    if before.window_seconds != after.window_seconds:
        yield (
            f"The windows of measurement differ: {before.window_seconds:g} s before, {after.window_seconds:g} s after."
        )


def _moved_peers(changes: list[Change]) -> Iterator[str]:
    """A peer that changed although it is the same program on the same machine: something else ran beside it."""
    for peer in PEERS:
        words = [change.word for change in changes if change.figure.subject == peer]
        moved = sum(word in (Word.BETTER, Word.WORSE) for word in words)
        if moved:
            yield f"{peer} is the same, yet {moved} of its {len(words)} figures moved: so did the machine."
