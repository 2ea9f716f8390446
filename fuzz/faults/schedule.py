"""The virtual clock, and what is to happen when."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import ceil

Step = Callable[[], None]

_TICKS_PER_SECOND = 512
"""A tick is whole in nanoseconds and exact in a double, so that whoever keeps a rate comes to the same."""


class Schedule:
    """Steps in the order of their times, which are whole ticks; those of one in the order they were planned in."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        """How many were taken."""
        self.after_each: Step = lambda: None
        self._planned: list[tuple[float, int, Step]] = []
        self._numbers = count()

    def at(self, time: float, step: Step) -> None:
        """Plans a step; one that should have been taken already is the next one."""
        heappush(self._planned, (max(_tick(time), self.now), next(self._numbers), step))

    def after(self, seconds: float, step: Step) -> None:
        """Plans a step."""
        self.at(self.now + seconds, step)

    def run_until(self, end: float) -> None:
        """Takes all steps up to that time."""
        planned, end = self._planned, _tick(end)
        while planned and planned[0][0] <= end:
            self.now, _, step = heappop(planned)
            self.steps += 1
            step()
            self.after_each()
        self.now = end


def _tick(time: float) -> float:
    """The first tick that is not before that time."""
    return ceil(time * _TICKS_PER_SECOND) / _TICKS_PER_SECOND
