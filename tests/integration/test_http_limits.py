"""HTTP clients that take their time, are too many, or send too much: they are let go, and others are answered."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from fastapi import FastAPI, Request
from starlette.responses import Response

from relayd.http import protocol as http_protocol
from relayd.http import tls_listener
from relayd.http.server import HttpServer
from relayd.http.tls import Certificate, trusting
from tests.integration.certificates import needs_openssl, self_signed
from tests.integration.config import new_sessions
from tests.integration.conftest import StartRelay
from tests.integration.waiting import PATIENCE_SECONDS

SECONDS = 0.3
MOST = 5
LARGE = b"x" * (32 << 20)
WHOLE = b"GET /fine HTTP/1.1\r\nhost: here\r\n\r\n"
FINE = b"HTTP/1.1 200 OK"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "REQUEST_SECONDS", SECONDS)
    monkeypatch.setattr(http_protocol, "ANSWER_SECONDS", SECONDS)


def app() -> FastAPI:
    made = FastAPI()

    @made.get("/fine")
    async def fine() -> Response:
        return Response("fine")

    @made.get("/slow")
    async def slow() -> Response:
        await asyncio.sleep(3 * SECONDS)
        return Response("slow")

    @made.get("/large")
    async def large() -> Response:
        return Response(LARGE)

    @made.post("/read")
    async def read(request: Request) -> Response:
        return Response(str(len(await request.body())))

    return made


Address = tuple[str, int]


def served(client: Callable[[Address], Awaitable[None]], certificate: Certificate | None = None) -> None:
    """Runs a server, and a client against it."""

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            server = HttpServer(app(), sock, most_connections=MOST, certificate=certificate)
            running = asyncio.create_task(server.run_until_stopped())
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await client(sock.getsockname())
            finally:
                server.stop()
                await running

    uvloop.run(run())


@contextlib.asynccontextmanager
async def connected(address: Address) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server ends the connection."""
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /fi",
        WHOLE[:-1],
        b"POST /read HTTP/1.1\r\nhost: here\r\ncontent-length: 10\r\n\r\n12345",
        b"POST /read HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n",
        WHOLE + b"GET /fi",
    ],
)
def test_half_a_request_is_waited_for_only_so_long(sent: bytes) -> None:
    async def client(address: Address) -> None:
        async with connected(address) as (reader, writer):
            writer.write(sent)
            answer = await until_closed(reader)
            assert answer.count(FINE) == sent.count(WHOLE)

    served(client)


def test_a_drop_at_a_time_does_not_make_it_longer() -> None:
    async def client(address: Address) -> None:
        async with connected(address) as (reader, writer):
            closed = asyncio.create_task(until_closed(reader))
            with contextlib.suppress(ConnectionError):
                while not closed.done():
                    writer.write(b"x")
                    await asyncio.sleep(SECONDS / 10)
            assert await closed == b""

    served(client)


def test_an_answer_may_take_longer_than_a_request() -> None:
    async def client(address: Address) -> None:
        async with connected(address) as (reader, writer):
            writer.write(WHOLE.replace(b"/fine", b"/slow"))
            assert (await reader.readline()).startswith(FINE)

    served(client)


def test_a_client_that_does_not_read_its_answer_is_let_go() -> None:
    async def client(address: Address) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            await loop.sock_sendall(sock, WHOLE.replace(b"/fine", b"/large"))
            await asyncio.sleep(3 * SECONDS)
            received = 0
            with contextlib.suppress(ConnectionError):
                while part := await loop.sock_recv(sock, 1 << 20):
                    received += len(part)
            assert received < len(LARGE)

    served(client)


def test_a_large_answer_reaches_whoever_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine may not come to read for a moment: how long it may take is for tests/unit/http/test_server.py.
    monkeypatch.setattr(http_protocol, "ANSWER_SECONDS", PATIENCE_SECONDS)

    async def client(address: Address) -> None:
        async with connected(address) as (reader, writer):
            writer.write(WHOLE.replace(b"/fine", b"/large"))
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(LARGE)) == LARGE

    served(client)


def test_for_one_more_the_longest_idle_is_closed() -> None:
    async def client(address: Address) -> None:
        async with contextlib.AsyncExitStack() as stack:
            taken = []
            for _ in range(MOST):
                reader, writer = await stack.enter_async_context(connected(address))
                writer.write(WHOLE)
                await reader.readuntil(b"fine")
                taken.append((reader, writer))
            async with connected(address) as (reader, writer):
                writer.write(WHOLE)
                await reader.readuntil(b"fine")
                assert await until_closed(taken.pop(0)[0]) == b""
                for left, to in taken:
                    to.write(WHOLE)
                    await left.readuntil(b"fine")

    served(client)


def test_headers_have_a_bound() -> None:
    async def client(address: Address) -> None:
        async with connected(address) as (reader, writer):
            writer.write(WHOLE[:-2] + b"x: " + b"y" * (1 << 20) + b"\r\n\r\n")
            assert FINE not in await until_closed(reader)

    served(client)


@needs_openssl
def test_with_tls_too(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, "served")

    async def client(address: Address) -> None:
        trust = trusting(pair.certificate, "test")
        reader, writer = await asyncio.open_connection(*address, ssl=trust)
        writer.write(b"GET /fi")
        assert await until_closed(reader) == b""
        writer.close()

    served(client, Certificate(pair.certificate, pair.key, "admin"))


@needs_openssl
def test_connections_without_a_handshake_take_no_more_places_than_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_listener, "_HANDSHAKE_SECONDS", 10 * PATIENCE_SECONDS)
    pair = self_signed(tmp_path, "served")

    async def client(address: Address) -> None:
        async with contextlib.AsyncExitStack() as stack:
            silent = [(await stack.enter_async_context(connected(address)))[0] for _ in range(4 * MOST)]
            closed = [asyncio.create_task(until_closed(reader)) for reader in silent]
            while sum(task.done() for task in closed) < 3 * MOST:
                await asyncio.wait([task for task in closed if not task.done()], return_when=asyncio.FIRST_COMPLETED)
            reader, writer = await asyncio.open_connection(*address, ssl=trusting(pair.certificate, "test"))
            writer.write(WHOLE)
            assert (await reader.readuntil(b"fine")).startswith(FINE)
            writer.close()
            for task in closed:
                task.cancel()

    served(client, Certificate(pair.certificate, pair.key, "admin"))


@needs_openssl
def test_a_handshake_under_way_does_not_hold_up_the_end(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, "served")
    silent: list[socket.socket] = []

    async def client(address: Address) -> None:
        silent.append(socket.create_connection(address))
        reader, writer = await asyncio.open_connection(*address, ssl=trusting(pair.certificate, "test"))
        writer.write(WHOLE)
        await reader.readuntil(b"fine")
        writer.close()

    served(client, Certificate(pair.certificate, pair.key, "admin"))
    with silent.pop() as left:
        assert left.recv(1) == b""


# A real server ------------------------------------------------------------------------------------------------


def test_the_admin_server_takes_no_more_than_it_is_told(start_relay: StartRelay) -> None:
    relay = start_relay(new_sessions("one"), {"admin": {"max_connections": 3}})
    ip, _, port = relay.settings["admin"]["bind"].rpartition(":")
    with contextlib.ExitStack() as stack:
        first, *_ = [stack.enter_context(socket.create_connection((ip, int(port)), 10)) for _ in range(3)]
        stack.enter_context(socket.create_connection((ip, int(port)), 10))
        with contextlib.suppress(ConnectionError):
            assert first.recv(1) == b""
