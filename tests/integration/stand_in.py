"""A control plane that does as it is told: serves the contract, or fails in every way a real one might."""

import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from bench.ports import free_ports
from tests.integration.config import SessionKeys

PAGE_SESSIONS = 2
"""Few, so that a handful of sessions takes several pages."""

Misbehaviour = Callable[["_Handler"], None]


def relay_session(keys: SessionKeys, ip: str, server_port: int, client_port: int) -> dict[str, Any]:
    """A session as the API lists it, linked to that relay."""
    ports = {
        name: {"port": port, "protocol": "UDP", "link": f"{ip}:{port}"}
        for name, port in (("server", server_port), ("client", client_port))
    }
    return {
        **keys.as_json(),
        "status": "Ready",
        "ready": True,
        "linked": True,
        "error": None,
        "relay": {"ip": ip, "host": "relay.example", "ports": ports},
        "webhook_url": None,
    }


class StandIn:
    """The public API and, with ``nodes``, heartbeats too. As a context manager it listens on a port of its own."""

    def __init__(self, nodes: bool = False) -> None:
        self.nodes = nodes
        self.sessions: list[dict[str, Any]] = []
        self.removed: list[str] = []
        self.epoch = "first"
        self.revision = 1
        self.misbehaviour: Misbehaviour | None = None
        self.between_pages: Callable[[], None] | None = None
        """Called once, after the first page of a list was answered."""
        self.requests: list[tuple[float, str, int]] = []
        """When, what, and with which status it was answered."""
        self.heartbeats: list[dict[str, Any]] = []
        self.usage: list[dict[str, Any]] = []
        """Records that were taken."""
        self.usage_misbehaviour: Misbehaviour | None = None
        """The same for reports of usage alone."""
        (self.port,) = free_ports(1, socket.SOCK_STREAM)
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.misbehaviour = None
        self.close()

    def open(self) -> None:
        handler = type("Handler", (_Handler,), {"stand_in": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def is_open(self) -> bool:
        return self._server is not None

    def changed(self) -> None:
        """To be called after `sessions` or `removed` were changed."""
        self.revision += 1

    def answered(self, status: int) -> int:
        """How many requests were answered with that status."""
        return sum(request[2] == status for request in self.requests)


class _Handler(BaseHTTPRequestHandler):
    stand_in: StandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer_or_misbehave(self._get)

    def do_PUT(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._answer_or_misbehave(self._put)

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._answer_or_misbehave(self._post)

    def _post(self) -> None:
        if self.stand_in.usage_misbehaviour is not None:
            self.stand_in.usage_misbehaviour(self)
            return
        self.stand_in.usage += self.body["records"]
        self.reply(204, None)

    def _answer_or_misbehave(self, answer: Callable[[], None]) -> None:
        if not self.stand_in.is_open:
            # A connection from before: closing the listener does not end it.
            self.close_connection = True
            return
        misbehaviour = self.stand_in.misbehaviour
        try:
            answer() if misbehaviour is None else misbehaviour(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _put(self) -> None:
        if not self.stand_in.nodes:
            self.reply(404, {"message": "no such path"})
            return
        self.stand_in.heartbeats.append(self.body)
        self.reply(200, {"epoch": self.stand_in.epoch, "revision": self.stand_in.revision})

    def _get(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/v1/relays/sessions":
            self._list(int(parse_qs(url.query).get("page", ["1"])[0]))
        elif self.stand_in.nodes and url.path.endswith("/sessions"):
            self._changes(parse_qs(url.query))
        else:
            self.reply(404, {"message": "no such path"})

    def _list(self, page: int) -> None:
        sessions = self.stand_in.sessions
        shown = sessions[(page - 1) * PAGE_SESSIONS : page * PAGE_SESSIONS]
        pages = max(1, -(-len(sessions) // PAGE_SESSIONS))
        pagination = {
            "number": page,
            "next_page_number": page + 1 if page < pages else None,
            "previous_page_number": page - 1 if page > 1 else None,
            "paginator": {"num_pages": pages},
            "has_next": page < pages,
            "has_previous": page > 1,
        }
        body = {"sessions": shown, "total_count": len(sessions), "pagination": pagination}
        tag = f'"{hash(json.dumps(body))}"'
        if self.headers.get("if-none-match") == tag:
            self.reply(304, None, {"ETag": tag})
        else:
            self.reply(200, body, {"ETag": tag})
        change = self.stand_in.between_pages
        if page == 1 and change is not None:
            self.stand_in.between_pages = None
            change()

    def _changes(self, query: dict[str, list[str]]) -> None:
        stand_in = self.stand_in
        full = query.get("epoch") != [stand_in.epoch]
        body = {
            "epoch": stand_in.epoch,
            "revision": stand_in.revision,
            "full": full,
            "sessions": stand_in.sessions,
            "removed": [] if full else stand_in.removed,
            "next": None,
        }
        self.reply(200, body)

    def reply(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        self.reply_bytes(status, b"" if body is None else json.dumps(body).encode(), headers)

    def reply_bytes(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.stand_in.requests.append((time.monotonic(), f"{self.command} {self.path}", status))
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Says nothing."""


def empty(handler: _Handler) -> None:
    """Everything is fine, and there are no sessions."""
    stand_in = handler.stand_in
    pagination = {"has_next": False}
    body = {"sessions": [], "total_count": 0, "pagination": pagination, "removed": [], "next": None, "full": True}
    handler.reply(200, {**body, "epoch": "another", "revision": stand_in.revision})


def garbage(handler: _Handler) -> None:
    handler.reply_bytes(200, b"<html>\xff\x00 welcome to our portal")


def wrong_shape(handler: _Handler) -> None:
    handler.reply(200, {"sessions": [{"session_id": 7}], "epoch": None, "revision": "new", "full": 3})


def server_error(handler: _Handler) -> None:
    handler.reply(500, {"message": "sorry"})


def come_back_later(handler: _Handler) -> None:
    handler.reply(503, {"message": "too busy"}, {"Retry-After": "2"})


def hang(handler: _Handler) -> None:
    """Takes the request and never answers, until the test is over."""
    while handler.stand_in.misbehaviour is hang:
        time.sleep(0.01)
    handler.close_connection = True


def trickle(handler: _Handler) -> None:
    """Sends an endless answer, a byte at a time."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while handler.stand_in.misbehaviour is trickle:
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.01)
    handler.close_connection = True
