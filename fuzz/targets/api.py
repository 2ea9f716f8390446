"""Requests to the REST API, of those who have a key: whatever they ask, the answer is never an error of the server.

Each request is a byte for its route, and then path, query and body, each up to the next 0x00. ``$S`` stands for the
session made last, ``$T`` for the token of its first user.
"""

import asyncio
import functools
import json
from collections import Counter
from typing import Any
from urllib.parse import quote

import httpx
from fastapi import FastAPI
from structlog.testing import capture_logs

from fuzz.figures import Done
from fuzz.reader import Reader
from fuzz.resources import loop
from relayd.control_plane.api.application import create_app
from relayd.control_plane.api.auth import Authenticator
from relayd.control_plane.api.caller import Callers
from relayd.control_plane.service import ControlPlane
from relayd.control_plane.store.sqlite import SqliteStore
from relayd.control_plane.webhooks.delivery import Webhooks

UNIT = "requests"

_KEY = "a key with every scope"
_MOST_REQUESTS = 20
_SERVER_ERROR = 500
_ROUTES = (
    ("POST", "/v1/relays/sessions"),
    ("GET", "/v1/relays/sessions"),
    ("GET", "/v1/relays/sessions/"),
    ("DELETE", "/v1/relays/sessions/"),
    ("POST", "/v1/relays/sessions:authorize-user"),
    ("POST", "/v1/relays/sessions:revoke-user"),
    ("PUT", "/v1/relays/nodes/"),
    ("GET", "/v1/relays/nodes/"),
    ("GET", "/"),
    ("POST", "/v1/relays/nodes/"),
    ("GET", "/v1/relays/usage"),
)
_PATH_MARKS = "/:$%"


class _Caller:
    """Somebody with a key, who remembers what it was answered."""

    def __init__(self, app: FastAPI) -> None:
        self._client = httpx.AsyncClient(
            base_url="http://api", transport=httpx.ASGITransport(app), headers={"authorization": f"token {_KEY}"}
        )
        self._session = b"0724828881e2-S"
        self._token = b"1"
        self.answers: Counter[str] = Counter()

    async def ask(self, read: Reader) -> None:
        """One request; raises if its answer says that the server failed."""
        method, path = read.pick(_ROUTES)
        rest, query, body = (self._filled_in(read.until(0)) for _ in range(3))
        url = path + quote(rest, safe=_PATH_MARKS) + "?" + quote(query, safe="=&%")
        answer = await self._client.request(method, url, content=body)
        assert answer.status_code < _SERVER_ERROR, f"{method} {url}: {answer.status_code} {answer.text}"
        self.answers[str(answer.status_code)] += 1
        if answer.headers.get("content-type") == "application/json":
            self._remember(json.loads(answer.content))

    def _filled_in(self, text: bytes) -> bytes:
        return text.replace(b"$S", self._session).replace(b"$T", self._token)

    def _remember(self, answer: Any) -> None:
        if isinstance(answer, dict) and "session_id" in answer:
            self._session = answer["session_id"].encode()
            for user in answer.get("session_users", ())[:1]:
                self._token = str(user["authorization_token"]).encode()


class _NoWebhooks(Webhooks):
    """Takes all addresses and calls none of them."""

    def __init__(self) -> None:
        self.allow_private = True

    def wake(self) -> None:
        """There is nobody to wake."""

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.Event().wait()


def _new() -> ControlPlane:
    return ControlPlane(SqliteStore(":memory:"), _NoWebhooks(), clock=lambda: 1_700_000_000.0)


@functools.cache
def _server() -> tuple[FastAPI, ControlPlane]:
    """To make an app takes far longer than to ask it something."""
    control_plane = _new()
    return create_app(control_plane, Authenticator(SqliteStore(":memory:"), extra_key=_KEY), Callers(())), control_plane


async def _ask_all(read: Reader) -> Done:
    app, control_plane = _server()
    vars(control_plane).update(vars(_new()))
    await control_plane.start()
    try:
        caller = _Caller(app)
        while read.left and caller.answers.total() < _MOST_REQUESTS:
            await caller.ask(read)
        return Done(caller.answers, caller.answers.total())
    finally:
        await control_plane.stop()


def check(data: bytes) -> Done:
    """Raises if the server fails on one of these requests. Returns how it answered."""
    with capture_logs():
        return loop().run(_ask_all(Reader(data)))
