"""The HTTP server on a clock that jumps: whom it waits for, and for how long."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response

from relayd.http.protocol import ANSWER_SECONDS, LAST_REQUEST_SECONDS, REQUEST_SECONDS
from relayd.http.server import GRACE_SECONDS, HttpServer
from tests.support import local_http
from tests.support.virtual_loop import now, run, turns, until

KEEP_ALIVE_SECONDS = 30.0
MOST_CONNECTIONS = 3
GET = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE_BYTES = 8 << 20
"""More than a local socket holds."""


class World:
    """A server, served beside the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = FastAPI()
        self.entered = 0

        @self.app.get("/hello")
        async def hello() -> Response:
            return PlainTextResponse("hello")

        @self.app.post("/slow")
        async def slow(seconds: float) -> Response:
            self.entered += 1
            await asyncio.sleep(seconds)
            return PlainTextResponse("done")

        @self.app.get("/large")
        async def large() -> Response:
            return PlainTextResponse("x" * LARGE_BYTES)

        self.server = HttpServer(self.app, local_http.listener(folder), most_connections=MOST_CONNECTIONS)

    async def connect(self, said: bytes = b"") -> asyncio.StreamReader:
        """A client that says this and then waits."""
        reader, writer = await local_http.connect(self.folder)
        self.writers.append(writer)
        writer.write(said)
        await turns()
        return reader

    writers: list[asyncio.StreamWriter]


def served(folder: Path, work: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def started() -> None:
        world = World(folder)
        world.writers = []
        serving = asyncio.create_task(world.server.run_until_stopped())
        await turns()
        try:
            await work(world)
        finally:
            for writer in world.writers:
                writer.close()
            world.server.stop()
            await serving

    run(started())


async def closed_after(reader: asyncio.StreamReader) -> float:
    """How long it takes until the server closes a connection."""
    began = now()
    try:
        while await reader.read(1 << 16):
            pass
    except ConnectionError:
        pass
    return now() - began


def test_requests_are_answered_one_after_another_on_one_connection(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with local_http.client(tmp_path) as client:
            for _ in range(3):
                answer = await client.get("/hello")
                assert (answer.status_code, answer.text) == (200, "hello")
                assert "server" not in answer.headers, "what runs here is nobody's business"
            assert len(world.server.server_state.connections) == 1

    served(tmp_path, work)


SLOW = b"POST /slow?seconds=5 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


def test_where_all_are_being_answered_one_more_is_closed_at_once(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        kept = [await world.connect(SLOW) for _ in range(MOST_CONNECTIONS)]
        await until(lambda: world.entered == MOST_CONNECTIONS)
        one_too_many = await world.connect(GET)
        assert await closed_after(one_too_many) < 1.0
        for reader in kept:
            assert b"done" in await reader.read(1 << 16)

    served(tmp_path, work)


@pytest.mark.parametrize("said", [b"", b"GET /hel", GET])
def test_the_longest_idle_gives_up_its_place(tmp_path: Path, said: bytes) -> None:
    async def work(world: World) -> None:
        slow = await world.connect(SLOW)
        await until(lambda: world.entered == 1)
        idle = [await world.connect(said) for _ in range(MOST_CONNECTIONS - 1)]
        for reader in idle:
            assert b"hello" in await (await world.connect(GET)).readuntil(b"hello")
            assert await closed_after(reader) < 1.0
        assert b"done" in await slow.read(1 << 16), "it waits for us"

    served(tmp_path, work)


def test_whoever_took_its_answer_slowly_is_idle_after_it(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        for _ in range(MOST_CONNECTIONS):
            reader = await world.connect(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(1.0)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(LARGE_BYTES)
        assert b"hello" in await (await world.connect(GET)).readuntil(b"hello")

    served(tmp_path, work)


def test_whoever_does_not_take_its_answer_gives_up_its_place(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        for _ in range(MOST_CONNECTIONS):
            await world.connect(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            world.writers[-1].transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads as well
        assert b"hello" in await (await world.connect(GET)).readuntil(b"hello")
        assert len(world.server.server_state.connections) <= MOST_CONNECTIONS

    served(tmp_path, work)


@pytest.mark.parametrize("said", [b"", b"GET /hel", b"GET /hello HTTP/1.1\r\nHost: x\r\n"])
def test_one_that_does_not_ask_in_time_is_closed(tmp_path: Path, said: bytes) -> None:
    async def work(world: World) -> None:
        assert await closed_after(await world.connect(said)) == pytest.approx(REQUEST_SECONDS, abs=0.5)

    served(tmp_path, work)


def test_a_body_that_trickles_in_does_not_prolong_the_time(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        reader = await world.connect(b"POST /slow?seconds=0 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")

        async def trickle() -> None:
            while True:
                await asyncio.sleep(1.0)
                world.writers[0].write(b"x")

        trickling = asyncio.create_task(trickle())
        assert await closed_after(reader) == pytest.approx(REQUEST_SECONDS, abs=0.5)
        trickling.cancel()

    served(tmp_path, work)


def test_one_that_was_answered_may_be_silent_longer(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        reader = await world.connect(GET)
        assert await closed_after(reader) == pytest.approx(KEEP_ALIVE_SECONDS, abs=0.5)

    served(tmp_path, work)


def test_a_next_request_that_has_begun_gets_no_more_than_a_first(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        reader = await world.connect(GET + b"GET /hel")
        assert await closed_after(reader) == pytest.approx(REQUEST_SECONDS, abs=0.5)

    served(tmp_path, work)


def test_an_answer_that_nobody_takes_is_not_kept_for_long(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.connect(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        world.writers[0].transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads as well
        await asyncio.sleep(ANSWER_SECONDS - 1.0)
        assert len(world.server.server_state.connections) == 1
        await asyncio.sleep(2.0)
        assert not world.server.server_state.connections

    served(tmp_path, work)


def test_an_answer_that_is_taken_slowly_is_finished(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        reader = await world.connect(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        read = 0
        while read < LARGE_BYTES:
            read += len(await reader.read(1 << 16))
            await asyncio.sleep(0.1)
        assert now() > 1000.0, "longer than a client may take nothing"

    served(tmp_path, work)


def test_a_request_under_way_is_finished_when_the_server_stops(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        async with local_http.client(tmp_path) as client:
            asking = asyncio.create_task(client.post("/slow", params={"seconds": GRACE_SECONDS - 1}))
            await until(lambda: world.entered)
            world.server.stop()
            assert (await asking).text == "done"

    served(tmp_path, work)


@pytest.mark.parametrize("said", [b"", GET[:10]])
def test_one_that_was_accepted_before_the_server_stops_is_answered_once(tmp_path: Path, said: bytes) -> None:
    async def work(world: World) -> None:
        reader = await world.connect(said)
        world.server.stop()
        await asyncio.sleep(LAST_REQUEST_SECONDS / 2)
        world.writers[-1].write(GET[len(said) :])
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"hello")

    served(tmp_path, work)


@pytest.mark.parametrize("said", [b"", GET[:10]])
def test_one_that_does_not_ask_holds_up_the_end_no_longer_than_a_moment(tmp_path: Path, said: bytes) -> None:
    async def work(world: World) -> None:
        reader = await world.connect(said)
        world.server.stop()
        assert LAST_REQUEST_SECONDS <= await closed_after(reader) < LAST_REQUEST_SECONDS + 0.5

    served(tmp_path, work)


def test_one_that_was_answered_is_closed_when_the_server_stops(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        reader = await world.connect(GET)
        await reader.readuntil(b"hello")
        world.server.stop()
        assert await closed_after(reader) < LAST_REQUEST_SECONDS / 2

    served(tmp_path, work)


def test_signals_stay_with_whoever_runs_the_loop(tmp_path: Path) -> None:
    def mine(*_: object) -> None:
        """Whoever runs the loop."""

    async def work(world: World) -> None:
        assert signal.getsignal(signal.SIGTERM) is mine

    before = signal.signal(signal.SIGTERM, mine)
    try:
        served(tmp_path, work)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_certificate_is_looked_after_once_a_minute(tmp_path: Path) -> None:
    class Certificate:
        looked = 0

        async def refresh(self) -> None:
            self.looked += 1

    async def work(world: World) -> None:
        certificate = Certificate()
        world.server._certificate = certificate  # type: ignore[assignment]  # in the place of one
        await asyncio.sleep(600.0)
        assert certificate.looked == pytest.approx(10, abs=1)

    served(tmp_path, work)


def test_a_look_at_a_certificate_that_hangs_is_the_only_one_and_keeps_nothing_up(tmp_path: Path) -> None:
    class Certificate:
        looked = 0

        async def refresh(self) -> None:
            self.looked += 1
            await asyncio.Event().wait()

    async def work(world: World) -> None:
        certificate = Certificate()
        world.server._certificate = certificate  # type: ignore[assignment]  # in the place of one
        await asyncio.sleep(600.0)
        assert certificate.looked == 1

    served(tmp_path, work)
