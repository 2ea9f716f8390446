"""Numbered places in the arrays of the fast path: given out, retired, and given out again only when it is safe.

The program may have read a number just before user space took it out of `pairs`; until that run is over it may still
look at the place and count there. Only then is the place empty.
"""

import asyncio
import ctypes
import platform
from collections.abc import Callable, Iterator

_MEMBARRIER = {"x86_64": 324, "aarch64": 283}
"""System call numbers of membarrier(2); glibc has no function for it."""
_MEMBARRIER_CMD_GLOBAL = 1
_LONGEST_RUN_SECONDS = 2.0
"""Far longer than any run of the program; only used where the kernel cannot be asked to wait for them."""


class Slots:
    """Numbers from 1 to ``most``."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._free = list(range(most, 0, -1))
        self._retired: list[tuple[int, Callable[[], None]]] = []

    def take(self) -> int:
        """A free number, or 0 when all are taken."""
        return self._free.pop() if self._free else 0

    def keep(self, taken: set[int]) -> None:
        """Takes these, which were given out before this process began."""
        self._free = [number for number in self._free if number not in taken]

    def retire(self, number: int, last_look: Callable[[], None]) -> None:
        """Takes a number back that the maps no longer name; ``last_look`` is called when nobody can use it any more."""
        self._retired.append((number, last_look))

    def retired(self) -> list[tuple[int, Callable[[], None]]]:
        """Those taken back since the last call, to be given to `free` once no run of the program knows them."""
        retired, self._retired = self._retired, []
        return retired

    def free(self, retired: list[tuple[int, Callable[[], None]]]) -> Iterator[None]:
        """Has a last look at these, and gives them out again; takes the list apart, and pauses after each."""
        while retired:
            number, last_look = retired.pop()
            last_look()
            self._free.append(number)
            yield

    def put_back(self, number: int) -> None:
        """Takes a number back that no map ever named."""
        self._free.append(number)


async def all_runs_over() -> None:
    """Returns when every run of a kernel program that had begun before the call has ended."""
    if not await asyncio.to_thread(_wait_in_kernel):
        await asyncio.sleep(_LONGEST_RUN_SECONDS)


def _wait_in_kernel() -> bool:
    """membarrier(2): waits for a grace period of RCU, which every run of a program is part of."""
    number = _MEMBARRIER.get(platform.machine())
    return number is not None and ctypes.CDLL(None).syscall(number, _MEMBARRIER_CMD_GLOBAL, 0, 0) == 0
