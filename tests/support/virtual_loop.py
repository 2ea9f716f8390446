"""An event loop whose clock jumps to whatever is due next, so that hours pass in milliseconds, the same way each time.

Time stands still while anything is ready to run. What `asyncio.to_thread` is given runs on the loop itself: no thread
decides about an order. Sockets work as ever, since what one end of a local socket sends is there for the other at once.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

T = TypeVar("T")

_STARTS_AT_SECONDS = 1000.0
_LONGEST_TEST_SECONDS = 100_000.0
_REAL_PATIENCE_SECONDS = 10.0
"""For what comes from outside, such as another thread, while nothing on the loop is due."""


class NothingLeftError(Exception):
    """Whatever is waited for does not come any more."""


class _Jumping(selectors.DefaultSelector):
    """Never waits for time: moves the clock instead."""

    clock: "VirtualClockLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            ready = super().select(_REAL_PATIENCE_SECONDS)
            if not ready:
                raise NothingLeftError("no timer is set, and nothing arrives")
            return ready
        self.clock.advance(timeout)
        return []


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """The loop; see `run`."""

    def __init__(self) -> None:
        selector = _Jumping()
        selector.clock = self
        self._now = _STARTS_AT_SECONDS
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Moves the clock on; ends a test that would wait forever."""
        self._now += seconds
        if self._now > _STARTS_AT_SECONDS + _LONGEST_TEST_SECONDS:
            raise NothingLeftError(f"{_LONGEST_TEST_SECONDS:.0f} s have passed, and the test is not over")

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Soon, on the loop itself."""
        future: asyncio.Future[T] = self.create_future()

        def call() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - as an executor: whoever awaits gets it
                future.set_exception(error)

        self.call_soon(call)
        return future


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a test's coroutine to its end on such a loop.

    Raises:
        NothingLeftError: it waits for what never comes.
    """
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main)


def now() -> float:
    """The running loop's clock."""
    return asyncio.get_running_loop().time()


async def turns(count: int = 20) -> None:
    """Lets everything run that is ready, without time passing."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], within_seconds: float = 300.0) -> None:
    """Returns once that is so; fails where it is not so within that time on the loop's clock."""
    deadline = now() + within_seconds
    while not condition():
        assert now() < deadline, f"not within {within_seconds:g} s"
        await asyncio.sleep(0.01)


class Running:
    """Runs something beside a test, and ends it with the block; what failed in it fails the test."""

    def __init__(self, *work: Coroutine[Any, Any, object]) -> None:
        self._work = work
        self.tasks: list[asyncio.Task[object]] = []

    async def __aenter__(self) -> Self:
        self.tasks = [asyncio.create_task(one) for one in self._work]
        await turns()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        for result in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
