"""A control plane as a process of its own, and what tests do with it."""

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from bench.ports import free_port
from tests.integration.commands import relayd
from tests.integration.programs import Done, Process, command, run, start
from tests.integration.waiting import PATIENCE_SECONDS, eventually

T = TypeVar("T")

KEY = "bootstrap-key-for-tests"


def until(what: str, probe: Callable[[], T]) -> T:
    """The first answer of the probe that is not empty."""
    return eventually(probe, what)


class Server:
    """`relayd control-plane` on a free port, with its database in a directory that outlives it."""

    def __init__(self, directory: Path, **api: object) -> None:
        self.directory = directory
        self.database = directory / "relayd.sqlite3"
        self.port = free_port(socket.SOCK_STREAM)
        self.config = directory / "relayd.toml"
        (directory / "key").write_text(KEY + "\n")
        values = {
            "bind": f"127.0.0.1:{self.port}",
            "token_file": "key",
            "database": self.database.name,
        } | api
        lines = [
            f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in values.items()
        ]
        self.config.write_text("\n".join(["[api]", *lines]) + "\n")
        self.log = directory / "log"
        self.process: Process | None = None
        self.before: list[str] = []
        """What stands before its command: a program that runs it."""
        self.client = self.with_key(KEY)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def with_key(self, key: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"token {key}"}, timeout=PATIENCE_SECONDS, trust_env=False
        )

    def command(self, *arguments: str) -> Done:
        """Without arguments: what the server says when it cannot start."""
        whole = ("control-plane", "--config", str(self.config), *arguments)
        if arguments and not self.before:
            return relayd(*whole)
        return run([*self.before, *command(*whole)], os.environ)

    def start(self, **environment: str) -> None:
        with self.log.open("ab") as log:
            self.process = start(
                [*self.before, *command("control-plane", "--config", str(self.config))],
                log,
                log,
                os.environ | {"PYTHONWARNINGS": "error"} | environment,
            )
        until("the control plane answers", self._answers)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.terminate()
        status = self.process.wait(PATIENCE_SECONDS)
        self.process = None
        return status

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        self.process = None

    def close(self) -> None:
        self.client.close()
        if self.process is not None:
            self.kill()

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(self.log.read_text())
        try:
            return self.client.get("/openapi.json").status_code == 200
        except httpx.TransportError:
            return False

    def create(self, *users: object, **more: object) -> dict[str, Any]:
        answer = self.client.post("/v1/relays/sessions", json={"users": users or ["1.1.1.1"], **more})
        assert answer.status_code == 200, answer.text
        session: dict[str, Any] = answer.json()
        return session

    def get(self, session: Mapping[str, Any]) -> dict[str, Any]:
        answer = self.client.get(f"/v1/relays/sessions/{session['session_id']}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def delete(self, session: Mapping[str, Any]) -> None:
        assert self.client.delete(f"/v1/relays/sessions/{session['session_id']}").status_code == 204


Made = Callable[..., Server]


class FakeRelay:
    """A relay that heartbeats and reads its sessions as the real one does, step by step."""

    def __init__(self, server: Server, name: str = "relay-1", **more: object) -> None:
        self.server, self.name = server, name
        self.epoch: str | None = None
        self.revision = 0
        self.sessions: dict[str, dict[str, Any]] = {}
        self.about: dict[str, object] = {
            "ip": "203.0.113.7", "host": "relay-1.example.net", "server_port": 32000, "client_port": 32001,
            "attributes": {"city": "Berlin", "continent": "Europe"}, "latitude": 52.5, "longitude": 13.4,
            "capacity": 10_000, "load": 0, "draining": False,
        } | more  # fmt: skip

    def beat(self, wait: float = 0, ended: tuple[str, ...] = ()) -> dict[str, Any]:
        answer = self.server.client.put(
            f"/v1/relays/nodes/{self.name}",
            params={"wait": wait},
            json=self.about | {"epoch": self.epoch, "revision": self.revision, "ended": ended},
        )
        assert answer.status_code == 200, answer.text
        newest: dict[str, Any] = answer.json()
        return newest

    def page(self, **parameters: Any) -> dict[str, Any]:
        answer = self.server.client.get(f"/v1/relays/nodes/{self.name}/sessions", params=parameters)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def read(self, limit: int = 200) -> list[dict[str, Any]]:
        """Reads what is new, all pages, and applies it."""
        known: dict[str, Any] = {"since": self.revision, "limit": limit}
        if self.epoch is not None:
            known["epoch"] = self.epoch
        pages = [self.page(**known)]
        while pages[-1]["next"] is not None:
            pages.append(self.page(**known, after=pages[-1]["next"]))
        if pages[0]["full"]:
            self.sessions = {}
        for page in pages:
            for gone in page["removed"]:
                self.sessions.pop(gone, None)
            self.sessions |= {session["session_id"]: session for session in page["sessions"]}
        self.epoch, self.revision = pages[0]["epoch"], pages[0]["revision"]
        return pages

    def sync(self) -> None:
        """Heartbeat, read, and a heartbeat that says so."""
        self.beat()
        self.read()
        self.beat()
