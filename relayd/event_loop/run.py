"""The event loop of a process: uvloop's where there is one, for it takes more datagrams; else asyncio's own."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from relayd.event_loop.threads import DaemonThreads

_T = TypeVar("_T")


def run_loop(main: Coroutine[Any, Any, _T]) -> _T:
    """As asyncio.run does, on the fastest loop there is, and without waiting for threads at the end."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.get_loop().set_default_executor(DaemonThreads())
        return runner.run(main)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Makes a loop; None for asyncio's own. Not made for Windows, uvloop is asked for on all other systems."""
    try:
        import uvloop  # noqa: PLC0415 - not there everywhere
    except ImportError:
        return None

    class Loop(uvloop.Loop):
        async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
            """As asyncio does it: the process would not end before libuv's own threads have an answer."""
            return await self.run_in_executor(None, lambda: socket.getaddrinfo(host, port, **hints))

    return Loop
