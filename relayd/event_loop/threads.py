"""Threads for what may hang, as on a network file system: neither loop nor end of the process waits for them."""

import _thread
import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreads(ThreadPoolExecutor):
    """A thread for each call, so that one that hangs keeps no other from running.

    The threads of a `ThreadPoolExecutor`, which is what asyncio insists on, are joined at the end of the process,
    however long that takes; these are not.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """See `concurrent.futures.Executor.submit`."""
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - as an executor: whoever awaits gets it
                future.set_exception(error)
            else:
                future.set_result(result)

        # Not `threading.Thread`: to start one waits until it runs, and so would the loop on a busy machine.
        _thread.start_new_thread(work, ())
        return future


async def within(seconds: float, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Does it in a thread, and waits no longer than this for it. The thread may go on by itself.

    Raises:
        TimeoutError: it takes longer.
    """
    async with asyncio.timeout(seconds):
        return await asyncio.to_thread(work, *args, **kwargs)
