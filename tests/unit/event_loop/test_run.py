"""Which event loop a process runs on."""

import asyncio
import sys

import pytest
import uvloop

from relayd.event_loop.run import run_loop


async def running_loop() -> type[asyncio.AbstractEventLoop]:
    return type(asyncio.get_running_loop())


def test_it_is_uvloops() -> None:
    assert issubclass(run_loop(running_loop()), uvloop.Loop)


def test_where_there_is_no_uvloop_it_is_asyncios(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert issubclass(run_loop(running_loop()), asyncio.BaseEventLoop)
