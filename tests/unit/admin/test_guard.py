"""What is answered over TCP: to whom, under which name, and what everybody else is told."""

import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from relayd.admin.guard import Guard
from relayd.settings import Settings
from tests.support.admin_server import AdminWorld, with_admin
from tests.support.virtual_loop import run

OPEN = ("/metrics", "/healthz", "/readyz")
TOKEN = "a-token-for-tests"
CLOSED = (
    ("GET", "/v1/sessions"),
    ("GET", "/v1/sessions/game"),
    ("GET", "/v1/status"),
    ("GET", "/v1/relay"),
    ("GET", "/v1/explain?target=1"),
    ("GET", "/v1/drain"),
    ("POST", "/v1/drain"),
    ("DELETE", "/v1/drain"),
    ("POST", "/v1/upgrade"),
    ("POST", "/v1/sessions/game/watch"),
    ("DELETE", "/v1/sessions/game/watch"),
    ("GET", "/openapi.json"),
    ("GET", "/metrics/"),
    ("GET", "//v1/sessions"),
    ("GET", "/metrics/../v1/sessions"),
    ("GET", "/nowhere"),
)


def over_tcp(world: AdminWorld, token: str | None = None, **admin: Any) -> httpx.AsyncClient:
    settings = Settings.model_validate({"admin": admin, "relay": {"public_host": "relay-1.example.net"}})
    guarded = Guard(world.app, settings, token, Path("/run/relayd/admin.sock"))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=guarded), base_url="http://127.0.0.1:9464")


def test_metrics_and_health_need_no_token() -> None:
    async def work(world: AdminWorld) -> None:
        for token in (None, TOKEN):
            async with over_tcp(world, token) as client:
                for path in OPEN:
                    assert (await client.get(path)).status_code == 200

    with_admin(work)


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_without_a_token_nothing_else_is_served(method: str, path: str) -> None:
    async def work(world: AdminWorld) -> None:
        async with over_tcp(world) as client:
            for headers in ({}, {"authorization": "Bearer "}, {"authorization": "Bearer None"}):
                answer = await client.request(method, path, headers=headers)
                assert answer.status_code == 403
                (message,) = answer.json().values()
                assert "/run/relayd/admin.sock" in message
                assert "admin.token_file" in message
        assert not world.relay.engine.draining
        assert world.upgrades == 0
        assert not world.relay.table.watched

    with_admin(work)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer x {TOKEN}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xe4",
    ],
)
def test_another_token_is_none(header: str) -> None:
    async def work(world: AdminWorld) -> None:
        async with over_tcp(world, TOKEN) as client:
            answer = await client.get("/v1/sessions", headers=[(b"authorization", header.encode("latin-1"))])
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "admin.token_file" in answer.json()["message"]
            assert TOKEN not in answer.text

    with_admin(work)


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"token {TOKEN}", f"bearer {TOKEN}", f"Token  {TOKEN} "])
def test_with_the_token_all_is_served(header: str) -> None:
    async def work(world: AdminWorld) -> None:
        async with over_tcp(world, TOKEN) as client:
            assert (await client.get("/v1/sessions", headers={"authorization": header})).status_code == 200
            drained = await client.post("/v1/drain", headers={"authorization": header})
            assert drained.json()["draining"] is True

    with_admin(work)


OWN = (
    "127.0.0.1:9464",
    "127.0.0.1",
    "[::1]:9464",
    "203.0.113.7:9464",
    "localhost:9464",
    "LOCALHOST",
    "relay-1:9464",
    "relay-1.example.net",
    "Relay-1.Example.NET.:9464",
    "metrics.example.org:9464",
    f"{socket.gethostname()}:9464",
    "relay.relayd.svc.cluster.local:9464",
    "relay.europe.internal",
    "relay.home.arpa",
)
FOREIGN = (
    "evil.example",
    "evil.example:9464",
    "localhost.evil.example",
    "127.0.0.1.evil.example:9464",
    "relay-1.example.net.evil.example",
    "xrelay-1.example.net",
    "notlocal.evil-local",
    "1.2.3.4.5",
    "user@127.0.0.1",
    "127.0.0.1:9464:1",
    "127.0.0.1/",
    "[::1",
    ".",
    "",
)


@pytest.mark.parametrize("path", [*OPEN, "/v1/sessions"])
def test_this_relays_names_are_answered_and_no_others(path: str) -> None:
    async def work(world: AdminWorld) -> None:
        async with over_tcp(world, TOKEN, hosts=["metrics.example.org"]) as client:
            headers = {"authorization": f"Bearer {TOKEN}"}
            for host in OWN:
                assert (await client.get(path, headers=headers | {"host": host})).status_code == 200, host
            for host in FOREIGN:
                answer = await client.get(path, headers=headers | {"host": host})
                assert answer.status_code == 421, host
                assert "admin.hosts" in answer.json()["message"]

    with_admin(work)


def test_http_1_0_may_name_no_host() -> None:
    async def work() -> None:
        told: list[dict[str, Any]] = []

        async def app(*_: object) -> None:
            told.append({"passed": True})

        async def send(message: Any) -> None:
            told.append(message)

        async def receive() -> Any:
            raise AssertionError("nothing is read")

        guard = Guard(app, Settings(), None, Path("/run/relayd/admin.sock"))
        await guard({"type": "http", "path": "/healthz", "headers": []}, receive, send)
        assert told == [{"passed": True}]

    run(work())
