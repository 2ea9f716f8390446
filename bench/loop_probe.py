"""For how long an event loop is held at a time."""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple


class Hold(NamedTuple):
    """The longest time between two turns of the loop, and the longest that its thread used a processor between two.

    Where the first is much longer, another process had the processor: a machine with a core to spare has the second.
    """

    wall_seconds: float
    cpu_seconds: float


class LoopProbe:
    """Takes every turn of the loop and measures the time between two of them."""

    def __init__(self) -> None:
        self._longest = Hold(0.0, 0.0)

    def longest(self) -> Hold:
        """The longest since the last call."""
        longest, self._longest = self._longest, Hold(0.0, 0.0)
        return longest

    async def watch_until(self, done: Callable[[], bool]) -> None:
        """Watches until ``done``."""
        wall, cpu = time.perf_counter(), time.thread_time()
        while not done():
            await asyncio.sleep(0)
            wall_now, cpu_now = time.perf_counter(), time.thread_time()
            longest = self._longest
            self._longest = Hold(max(longest.wall_seconds, wall_now - wall), max(longest.cpu_seconds, cpu_now - cpu))
            wall, cpu = wall_now, cpu_now
