"""Work that may hang: how long it is waited for, and that the end of the process is not held up by it."""

import asyncio
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

from relayd.event_loop.run import run_loop
from relayd.event_loop.threads import DaemonThreads, within
from tests.integration.waiting import PATIENCE_SECONDS

HANGS = """
import asyncio, socket, threading
from relayd.event_loop.run import run_loop
from relayd.event_loop.threads import within

def hang(*_, **__):
    threading.Event().wait()

async def read():
    await within(0.01, hang)

async def resolve():
    socket.getaddrinfo = hang
    await asyncio.wait_for(asyncio.get_running_loop().getaddrinfo("relays.example.net", 443), 0.01)

try:
    run_loop({work}())
except TimeoutError:
    print("not waited for")
"""


def test_it_gives_what_the_work_gives() -> None:
    assert run_loop(within(PATIENCE_SECONDS, int, "12")) == 12
    with pytest.raises(ValueError, match="invalid literal"):
        run_loop(within(PATIENCE_SECONDS, int, "twelve"))


def test_work_that_hangs_keeps_no_other_from_being_done() -> None:
    over = threading.Event()

    async def work() -> list[int]:
        hanging = [asyncio.create_task(asyncio.to_thread(over.wait)) for _ in range(100)]
        await asyncio.sleep(0)
        done = [await asyncio.to_thread(int, "1")]
        over.set()
        await asyncio.gather(*hanging)
        return done

    assert run_loop(work()) == [1]


def test_work_that_was_cancelled_before_it_began_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[object] = []
    monkeypatch.setattr("_thread.start_new_thread", lambda work, _: begun.append(work))
    done: list[int] = []
    future = DaemonThreads().submit(done.append, 1)
    assert future.cancel()
    (work,) = begun
    assert callable(work)
    work()
    assert done == []


@pytest.mark.parametrize("work", ["read", "resolve"])
@pytest.mark.parametrize("without", ["", "import sys; sys.modules['uvloop'] = None"], ids=["uvloop", "asyncio"])
def test_the_process_ends_though_a_thread_hangs(without: str, work: str) -> None:
    program = without + HANGS.format(work=work)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "not waited for\n", "")


def test_names_are_resolved_as_asyncio_does_it() -> None:
    async def resolved() -> list[Any]:
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo("127.0.0.1", 443, type=socket.SOCK_STREAM)

    assert run_loop(resolved()) == asyncio.run(resolved())
