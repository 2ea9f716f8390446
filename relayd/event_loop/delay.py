"""How late the event loop fires a timer: what blocks the loop blocks everything but the forwarding thread."""

import asyncio
import time
from collections.abc import Callable

from relayd.core.histogram import Histogram

_EVERY_SECONDS = 0.1
_BOUNDS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class LoopDelay:
    """Measures with a timer ten times a second.

    Args:
        clock: seconds, finer than `loop.time()`, which uvloop reads once a turn and only to the millisecond.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.histogram = Histogram(_BOUNDS_SECONDS)

    async def watch_forever(self) -> None:
        """Measures."""
        while True:
            due = self._clock() + _EVERY_SECONDS
            await asyncio.sleep(_EVERY_SECONDS)
            self.histogram.observe(max(0.0, self._clock() - due))
