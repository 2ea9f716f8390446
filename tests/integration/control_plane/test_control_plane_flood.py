"""Connections that ask for nothing: an attack, at a bounded rate, by those who have no key."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.integration.control_plane.process import KEY, FakeRelay, Made, Server, until
from tests.integration.waiting import PATIENCE_SECONDS

MOST = 64
ATTACKER = "127.0.0.66"


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    """Closes all connections in the end."""
    with ExitStack() as stack:
        yield stack


def connect(crowd: ExitStack, server: Server, source: str, times: int, said: bytes = b"") -> list[socket.socket]:
    """So many connections of that address, which say that and nothing more."""
    made = []
    for _ in range(times):
        one = socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS, (source, 0))
        made.append(crowd.enter_context(one))
        if said:
            one.sendall(said)
    return made


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has ended it without an answer."""
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def client_at(crowd: ExitStack, server: Server, source: str) -> httpx.Client:
    """Somebody else, with a connection of its own."""
    transport = httpx.HTTPTransport(local_address=source)
    headers = {"Authorization": f"token {KEY}"}
    client = httpx.Client(base_url=server.url, transport=transport, headers=headers, timeout=PATIENCE_SECONDS)
    return crowd.enter_context(client)


@pytest.mark.parametrize(
    "said", [b"", b"GET /v1/rel", b"POST /v1/relays/sessions HTTP/1.1\r\nContent-Length: 9\r\n\r\n"]
)
def test_idle_connections_of_one_address_keep_nobody_out(made: Made, crowd: ExitStack, said: bytes) -> None:
    server = made(max_connections=MOST)
    server.start()
    friend = client_at(crowd, server, "127.0.0.2")
    assert friend.get("/healthz").status_code == 200
    connect(crowd, server, ATTACKER, MOST + MOST // 4, said)
    for number in range(3, 8):
        assert client_at(crowd, server, f"127.0.0.{number}").get("/v1/ip").status_code == 200
    assert friend.get("/v1/ip").status_code == 200
    assert client_at(crowd, server, ATTACKER).get("/v1/ip").status_code == 200, "not even those at the same address"
    assert server.stop() == 0


def test_idle_connections_of_many_addresses_keep_nobody_out(made: Made, crowd: ExitStack) -> None:
    server = made(max_connections=MOST)
    server.start()
    relay = FakeRelay(server)
    relay.sync()
    answers: list[int] = []

    def hold() -> None:
        """A heartbeat that is held until there is something new, as relays' are."""
        beat = relay.about | {"epoch": relay.epoch, "revision": relay.revision}
        client = client_at(crowd, server, "127.0.0.9")
        answers.append(client.put(f"/v1/relays/nodes/{relay.name}", params={"wait": 30}, json=beat).status_code)

    held = threading.Thread(target=hold)
    held.start()
    for number in range(20):
        connect(crowd, server, f"127.0.1.{1 + number}", MOST // 8)
    created = client_at(crowd, server, "127.0.0.2").post("/v1/relays/sessions", json={"users": ["1.1.1.1"]})
    assert created.status_code == 200
    held.join(PATIENCE_SECONDS)
    assert answers == [200], "who waits for an answer stays"
    assert server.stop() == 0


@pytest.mark.parametrize("trusted", [False, True])
def test_a_proxy_has_all_places_and_others_half_of_them(made: Made, crowd: ExitStack, trusted: bool) -> None:
    server = made(max_connections=MOST, trusted_proxies=["127.0.0.5"] if trusted else [])
    server.start()
    relay = FakeRelay(server)
    relay.sync()
    beat = json.dumps(relay.about | {"epoch": relay.epoch, "revision": relay.revision})
    request = (
        f"PUT /v1/relays/nodes/relay-1?wait=30 HTTP/1.1\r\nHost: x\r\nAuthorization: token {KEY}\r\n"
        f"Content-Length: {len(beat)}\r\n\r\n{beat}"
    )
    held = connect(crowd, server, "127.0.0.5", MOST // 2 + 4, request.encode())
    refused = 0 if trusted else 4
    until("those are refused that are too many", lambda: [is_closed(one) for one in held].count(True) == refused)
    server.create()  # what they wait for
    answered = [one for one in held if not is_closed(one)]
    for one in answered:
        one.settimeout(PATIENCE_SECONDS)
        assert one.recv(12) == b"HTTP/1.1 200"
    assert len(answered) == len(held) - refused
    assert server.stop() == 0
