"""HTTP over a local socket in a folder: the real server and its clients without a port, on any loop."""

import asyncio
import socket
from pathlib import Path

import httpx

NAME = "http"


def listener(folder: Path) -> socket.socket:
    """Listens in that folder."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(folder / NAME))
    sock.listen(100)
    sock.setblocking(False)
    return sock


def client(folder: Path) -> httpx.AsyncClient:
    """Asks whoever listens there."""
    transport = httpx.AsyncHTTPTransport(uds=str(folder / NAME))
    return httpx.AsyncClient(transport=transport, base_url="http://local", timeout=None)


async def connect(folder: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to whoever listens there, on which the test says what it wants."""
    return await asyncio.open_unix_connection(str(folder / NAME))
