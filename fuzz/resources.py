"""What targets need over and over: made once, and released at the end of the process."""

import asyncio
import atexit
import functools
import tempfile
from pathlib import Path


@functools.cache
def loop() -> asyncio.Runner:
    """An event loop."""
    runner = asyncio.Runner()
    atexit.register(runner.close)
    return runner


@functools.cache
def folder() -> Path:
    """For files."""
    made = tempfile.TemporaryDirectory(prefix="relayd-fuzz-")
    atexit.register(made.cleanup)
    return Path(made.name)


def let_go() -> None:
    """For those who end the process in a way that lets nobody else do it."""
    atexit._run_exitfuncs()
