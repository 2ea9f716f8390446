"""The clock of the tests does not lie."""

import asyncio
import socket
import threading
import time

import pytest

from tests.support.virtual_loop import NothingLeftError, Running, now, run, turns


def test_hours_pass_at_once_and_in_order() -> None:
    async def work() -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []

        async def after(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append((name, now() - began))

        began = now()
        await asyncio.gather(after("an hour", 3600.0), after("a second", 1.0), after("two", 2.0))
        return seen

    began = time.monotonic()
    assert run(work()) == [("a second", 1.0), ("two", 2.0), ("an hour", 3600.0)]
    assert time.monotonic() - began < 600, "no clock of the host was waited for"


def test_time_stands_still_while_something_is_ready() -> None:
    async def work() -> float:
        began = now()
        asyncio.get_running_loop().call_later(5, lambda: None)
        await turns(1000)
        return now() - began

    assert run(work()) == 0.0


def test_a_timeout_fires_when_it_is_due() -> None:
    async def work() -> float:
        began = now()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 30.0)
        return now() - began

    assert run(work()) == pytest.approx(30.0)


def test_what_a_thread_is_given_runs_at_once_and_raises_where_it_is_awaited() -> None:
    async def work() -> None:
        began = now()
        assert await asyncio.to_thread(threading.get_ident) == threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        assert now() == began

    run(work())


def test_what_arrives_comes_before_what_is_due_later() -> None:
    async def work() -> float:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with here, there:
            here.setblocking(False)
            there.send(b"hello")
            began = now()
            asyncio.get_running_loop().call_later(5, lambda: None)
            assert await asyncio.get_running_loop().sock_recv(here, 100) == b"hello"
            return now() - began

    assert run(work()) == 0.0


def test_who_waits_forever_is_told() -> None:
    async def ticking() -> None:
        await asyncio.sleep(1e6)

    with pytest.raises(NothingLeftError, match="not over"):
        run(ticking())


def test_what_fails_beside_a_test_fails_the_test() -> None:
    async def fails() -> None:
        await asyncio.sleep(1.0)
        raise ValueError("beside")

    async def work() -> None:
        async with Running(fails()):
            await asyncio.sleep(2.0)

    with pytest.raises(ValueError, match="beside"):
        run(work())
