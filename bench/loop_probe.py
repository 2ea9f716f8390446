"""For how long an event loop is held at a time."""

import asyncio
import time
from collections.abc import Callable


class LoopProbe:
    """Takes every turn of the loop and measures the time between two of them."""

    def __init__(self) -> None:
        self._longest = 0.0

    def longest_seconds(self) -> float:
        """The longest since the last call."""
        longest, self._longest = self._longest, 0.0
        return longest

    async def watch_until(self, done: Callable[[], bool]) -> None:
        """Watches until ``done``."""
        before = time.perf_counter()
        while not done():
            await asyncio.sleep(0)
            now = time.perf_counter()
            self._longest = max(self._longest, now - before)
            before = now
