"""How much was done, and what became of it: what every run prints at its end."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple


class Done(NamedTuple):
    """What a target did with one input."""

    outcomes: Counter[str]
    """How many units, by what became of them."""
    checks: int
    """How often it was looked whether all holds that has to."""


def listed(counts: Mapping[str, int]) -> str:
    """Counts as text, the highest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ordered if count)


class Tally:
    """All that a run has done so far, and prints of it.

    Args:
        unit: what it counts.
        seed: what it began with.
    """

    def __init__(self, unit: str, seed: int) -> None:
        self.runs = self.units = 0
        self._unit = unit
        self._seed = seed
        self._began = time.monotonic()
        self._outcomes: Counter[str] = Counter()
        self._checks = 0

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def add(self, done: Done) -> None:
        """What was done with one more input."""
        self.runs += 1
        self.units += done.outcomes.total()
        self._outcomes.update(done.outcomes)
        self._checks += done.checks

    def replace(self, runs: int, done: Done) -> None:
        """What was done in all, where somebody else adds it up."""
        self.runs = 0
        self.units = self._checks = 0
        self._outcomes.clear()
        self.add(done)
        self.runs = runs

    def show(self) -> None:
        """Prints how far it is."""
        print(self._so_far(), flush=True)

    def conclude(self, passed: bool) -> None:
        """Prints all there is to say at the end."""
        print(f"{self._so_far()}: {'nothing broken' if passed else 'and then a failing input'}")
        print(f"outcomes: {listed(self._outcomes)}")
        print(f"{self._checks:,} checks, seed {self._seed}", flush=True)

    def _so_far(self) -> str:
        seconds = self.seconds
        rate = self.units / seconds if seconds else 0.0
        return f"{self.units:,} {self._unit} in {self.runs:,} runs, {seconds:.0f} s, {rate:,.0f} a second"
