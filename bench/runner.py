"""Runs scenarios: all subjects in turn, round after round, until enough rounds are done or the time is over.

A round goes through all scenarios and, in each, through all subjects. So whatever changes on the machine meanwhile
meets all of them, and when the time is over, they all have as many rounds, up to one. The first round is discarded:
files, CPU clocks and caches are cold in it. A quick run, which is to show that all works, has one round,
in which it takes one subject through all scenarios, then the next: should the time be over, no scenario is left out.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from bench.measurement import Effort, Measurement
from bench.results import Figure, LeftOut, Series
from bench.scenario import Scenario, Unavailable


class Turn(NamedTuple):
    """One run of one subject in a round; rounds that count are numbered from 1, round 0 is discarded."""

    round: int
    scenario: str
    subject: str


class Outcome(NamedTuple):
    """What the rounds gave."""

    series: list[Series]
    left_out: list[LeftOut]
    notes: list[str]


class Runner:
    """One run of the benchmark.

    ``tell`` hears of each turn before it begins, ``clock`` gives seconds. Only Unavailable, raised by a scenario, is
    taken as an answer; any other exception is a defect and ends the run.
    """

    def __init__(
        self,
        scenarios: Mapping[str, Scenario],
        effort: Effort,
        budget_seconds: float,
        tell: Callable[[Turn], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scenarios = scenarios
        self._effort = effort
        self._budget = _Budget(budget_seconds, clock)
        self._tell = tell
        self._left_out: list[LeftOut] = []
        self._subjects = {name: self._subjects_of(name) for name in scenarios}
        self._collected: dict[Figure, list[Measurement]] = {}

    @property
    def first_round(self) -> int:
        """0 if one round is discarded, else 1."""
        return 1 if self._effort.quick else 0

    @property
    def turns(self) -> int:
        """How many turns there are, if none is left out and the time is enough."""
        return sum(map(len, self._subjects.values())) * (self._effort.rounds + 1 - self.first_round)

    def run(self) -> Outcome:
        """Takes all turns that there is time for."""
        notes = []
        for turn in self._turns():
            if not self._budget.has_room_for(turn):
                notes.append(
                    f"The time of {self._budget.seconds:.0f} s was over before {turn.scenario}, {turn.subject} in"
                    f" {f'round {turn.round} of {self._effort.rounds}' if turn.round else 'the round to discard'}."
                )
                break
            self._tell(turn)
            self._take(turn)
        self._leave_out_what_was_not_reached()
        return Outcome(self._series(), self._left_out, notes)

    def _subjects_of(self, scenario: str) -> list[str]:
        try:
            return self._scenarios[scenario].subjects(self._effort)
        except Unavailable as reason:
            self._left_out.append(LeftOut(scenario=scenario, subject="", reason=str(reason)))
            return []

    def _turns(self) -> Iterator[Turn]:
        for round_ in range(self.first_round, self._effort.rounds + 1):
            # Copies: who turns out to be unavailable is taken off the list meanwhile.
            turns = [
                Turn(round_, scenario, subject) for scenario, subjects in self._subjects.items() for subject in subjects
            ]
            if self._effort.quick:
                order = list(dict.fromkeys(turn.subject for turn in turns))
                turns.sort(key=lambda turn: order.index(turn.subject))
            yield from turns

    def _take(self, turn: Turn) -> None:
        try:
            with self._budget.timing(turn):
                measurements = self._scenarios[turn.scenario].measure(turn.subject, self._effort)
        except Unavailable as reason:
            self._leave_out(turn.scenario, turn.subject, str(reason))
            return
        for measurement in measurements:
            _check(measurement, turn)
            if turn.round > 0:
                self._collected.setdefault(_figure(measurement), []).append(measurement)

    def _leave_out(self, scenario: str, subject: str, reason: str) -> None:
        self._left_out.append(LeftOut(scenario=scenario, subject=subject, reason=reason))
        self._subjects[scenario].remove(subject)
        for figure in [figure for figure in self._collected if figure[:2] == (scenario, subject)]:
            del self._collected[figure]

    def _leave_out_what_was_not_reached(self) -> None:
        reached = {figure[:2] for figure in self._collected}
        for scenario, subjects in self._subjects.items():
            for subject in list(subjects):
                if (scenario, subject) not in reached:
                    self._leave_out(scenario, subject, "the time was over before a round of it counted")

    def _series(self) -> list[Series]:
        order = list(self._scenarios)
        series = [Series.of(measurements) for measurements in self._collected.values()]
        return sorted(series, key=lambda one: order.index(one.scenario))


class _Budget:
    """How much time there is, and how long a turn takes: as long as the longest of the same subject so far."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.seconds = seconds
        self._clock = clock
        self._began = clock()
        self._longest: dict[tuple[str, str], float] = {}

    def has_room_for(self, turn: Turn) -> bool:
        spent = self._clock() - self._began
        return spent + self._longest.get((turn.scenario, turn.subject), 0.0) < self.seconds

    @contextmanager
    def timing(self, turn: Turn) -> Iterator[None]:
        began = self._clock()
        yield
        key = (turn.scenario, turn.subject)
        self._longest[key] = max(self._clock() - began, self._longest.get(key, 0.0))


def _figure(measurement: Measurement) -> Figure:
    return Figure(measurement.scenario, measurement.subject, measurement.metric, measurement.point)


def _check(measurement: Measurement, turn: Turn) -> None:
    """A wrong name or no number would only be noticed in the tables, minutes later."""
    if (measurement.scenario, measurement.subject) != (turn.scenario, turn.subject):
        raise ValueError(f"{turn.scenario}, {turn.subject}: gave a figure of something else: {measurement}")
    if not math.isfinite(measurement.value):
        raise ValueError(f"{turn.scenario}, {turn.subject}: {measurement.metric} is {measurement.value}")
