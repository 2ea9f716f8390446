"""What goes on for as long as the program runs, whatever happens to it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

PAUSE = 5.0
"""Seconds to wait after an unexpected failure: one that repeats at once must not fill the log and the processor."""

log = structlog.get_logger()


async def keep_going(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Does the work, and starts it again whenever it ends or fails, until cancelled."""
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - without this task, webhooks or tidying would end in silence
            report(f"{name} failed", error)
            await asyncio.sleep(PAUSE)


def report(event: str, error: BaseException, **about: object) -> None:
    """Logs it with its traceback. The log itself may be what failed: its reader is gone, its disk full."""
    with contextlib.suppress(Exception):
        log.error(event, exc_info=error, **about)
