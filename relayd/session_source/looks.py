"""Looks at a file that may hang: each has a limit, and those that hang keep no later one from seeing a new file."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from relayd.files import Stamp, read_if_changed

LIMIT_SECONDS = 10.0
HUNG = f"no answer within {LIMIT_SECONDS:g} s: is the file system it is on away?"
_LONGEST_PAUSE_SECONDS = 3600.0
_MOST_HANGING = 32
"""Threads; with the pauses between them, looks that hang take days to become so many."""


class HungError(Exception):
    """The look does not come back; the text says so."""


class Looks:
    """Looks at one file.

    Args:
        path: the file.
        came_back: called when a look that hung has ended after all: the next one will not hang.
    """

    def __init__(self, path: Path, came_back: Callable[[], None]) -> None:
        self._path = path
        self._came_back = came_back
        self._hanging: set[asyncio.Task[tuple[Stamp, bytes | None]]] = set()
        self._hung_in_a_row = 0

    @property
    def pause_seconds(self) -> float:
        """How long not to look again by itself: the longer, the more looks hung one after another."""
        if not self._hung_in_a_row:
            return 0.0
        return min(LIMIT_SECONDS * 2.0 ** (self._hung_in_a_row - 1), _LONGEST_PAUSE_SECONDS)

    async def look(self, seen: Stamp | None) -> tuple[Stamp, bytes | None]:
        """See `read_if_changed`.

        Raises:
            HungError: it takes longer than the limit, or too many others still do.
            OSError: it cannot be read.
        """
        if len(self._hanging) >= _MOST_HANGING:
            raise HungError(f"{_MOST_HANGING} looks at it hang: restart relayd once it can be read")
        look = asyncio.create_task(asyncio.to_thread(read_if_changed, self._path, seen))
        look.add_done_callback(_take_problem)
        await asyncio.wait([look], timeout=LIMIT_SECONDS)
        if look.done():
            self._hung_in_a_row = 0
            return look.result()
        self._hung_in_a_row += 1
        self._hanging.add(look)
        look.add_done_callback(self._ended)
        raise HungError(HUNG)

    def _ended(self, look: "asyncio.Task[tuple[Stamp, bytes | None]]") -> None:
        self._hanging.discard(look)
        if not look.cancelled():
            self._came_back()


def _take_problem(look: "asyncio.Task[tuple[Stamp, bytes | None]]") -> None:
    """Nobody may be left to hear it, at the end of the process or after the limit: asyncio would log a traceback."""
    if not look.cancelled():
        look.exception()
