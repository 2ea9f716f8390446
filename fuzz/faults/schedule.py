"""The virtual clock, and what is to happen when."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

Step = Callable[[], None]


class Schedule:
    """Steps in the order of their times; those of one time in the order in which they were planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        """How many were taken."""
        self.after_each: Step = lambda: None
        self._planned: list[tuple[float, int, Step]] = []
        self._numbers = count()

    def at(self, time: float, step: Step) -> None:
        """Plans a step; one that should have been taken already is the next one."""
        heappush(self._planned, (max(time, self.now), next(self._numbers), step))

    def after(self, seconds: float, step: Step) -> None:
        """Plans a step."""
        self.at(self.now + seconds, step)

    def run_until(self, end: float) -> None:
        """Takes all steps up to that time."""
        planned = self._planned
        while planned and planned[0][0] <= end:
            self.now, _, step = heappop(planned)
            self.steps += 1
            step()
            self.after_each()
        self.now = end
