"""A whole relay in the process of the test: its sockets without a network, its admin server in a folder, its clock the
loop's.

Not for tests of what the kernel does with sockets: those have real ones.
"""

import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from relayd import app
from relayd.admin import listeners
from relayd.app import Relay
from relayd.core.desired import SessionSpec
from relayd.core.endpoint import Address
from relayd.core.wire import State, decode_state, encode_host_data, encode_ping, encode_player_data
from relayd.forwarding.sockets import BoundSocket
from relayd.settings import Settings
from relayd.supervision.service_manager import ServiceManager
from tests.support import local_http
from tests.support.relays import ALICE, ALICE_AT, HOST, HOST_AT, ONGOING, SESSION, spec
from tests.support.sockets import FakeSocket, fake, fake_ports
from tests.support.virtual_loop import Running, run, turns, until


class WholeRelay:
    """To be made on the loop. Its sessions are in a file in its folder.

    Args:
        folder: for all that it reads and writes.
        monkeypatch: has it take the sockets of the test.
        specs: its sessions; None for a file that is not there yet.
        manager: its service manager.
        environment: see `Relay`.
        sections: of its configuration.
    """

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        specs: Iterable[SessionSpec] | None = (spec(),),
        manager: ServiceManager | None = None,
        environment: Mapping[str, str] | None = None,
        **sections: dict[str, Any],
    ) -> None:
        self.folder = folder
        self.sockets = fake_ports()
        self.source_file = folder / "sessions.json"
        if specs is not None:
            self.write(*specs)
        configuration: dict[str, dict[str, Any]] = {
            "source": {"kind": "file", "path": self.source_file, "poll_interval": 1.0},
            "state": {"directory": folder / "state"},
            "fast_path": {"mode": "off", "pin_directory": folder / "pins"},
            "relay": {"forwarder": "python"},
            "usage": {"interval": 60},
        }
        for name, section in sections.items():
            configuration.setdefault(name, {}).update(section)

        def sockets_of_the_test(*_: object) -> tuple[list[BoundSocket], list[str]]:
            return self.sockets, []

        monkeypatch.setattr(app, "open_sockets", sockets_of_the_test)
        (folder / "tcp").mkdir(exist_ok=True)
        monkeypatch.setattr(listeners, "listen", lambda *_: local_http.listener(folder / "tcp"))
        self.settings = Settings.model_validate(configuration)
        self.relay = Relay(self.settings, admin_path=folder / local_http.NAME, manager=manager, environment=environment)
        self.admin = local_http.client(folder)
        self.over_tcp = local_http.client(folder / "tcp")

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        """Served beside the test from when it is started to when it is stopped."""
        running = Running(self.relay.serve())
        try:
            async with running, self.admin, self.over_tcp:
                (self.task,) = running.tasks
                await until(lambda: self.relay._started.is_set() or self.task.done())
                yield self
                self.relay.stop()
                await until(self.task.done)
        finally:
            (self.folder / "tcp" / local_http.NAME).unlink(missing_ok=True)

    def write(self, *specs: SessionSpec) -> None:
        """Replaces the file of its sessions."""
        sessions = [
            {
                "session_id": one.session_id,
                "authorization_token": one.token,
                "session_users": [{"authorization_token": user.token} for user in one.users],
            }
            for one in specs
        ]
        new = self.source_file.with_suffix(".new")
        new.write_text(json.dumps({"sessions": sessions}))
        new.replace(self.source_file)

    async def get(self, path: str) -> Any:
        """What its admin server answers."""
        answer: httpx.Response = await self.admin.get(path)
        return answer.json()

    # Peers --------------------------------------------------------------------------------------------------

    @property
    def server(self) -> FakeSocket:
        return fake(self.sockets[0])

    @property
    def client(self) -> FakeSocket:
        return fake(self.sockets[1])

    async def host_pings(self, user: int = HOST, source: Address = HOST_AT, session: int = SESSION) -> State | None:
        """What a host that PINGs is told."""
        return await self._ping(self.server, encode_ping(user, session), source)

    async def player_pings(self, user: int = ALICE, source: Address = ALICE_AT, session: int = SESSION) -> State | None:
        return await self._ping(self.client, encode_ping(user, session), source)

    async def _ping(self, sock: FakeSocket, data: bytes, source: Address) -> State | None:
        sock.taken()
        sock.arrive(data, source)
        await turns(5)
        answers = [decode_state(answer) for answer, to in sock.taken() if to == source]
        return answers[0] if answers else None

    async def player_sends(
        self, payload: bytes = ONGOING, user: int = ALICE, source: Address = ALICE_AT, session: int = SESSION
    ) -> list[bytes]:
        """What the host is sent because of it."""
        self.server.taken()
        self.client.arrive(encode_player_data(user, session, payload), source)
        await turns(5)
        return [data for data, _ in self.server.taken()]

    async def host_sends(self, connection_id: int, payload: bytes = ONGOING) -> list[bytes]:
        self.client.taken()
        self.server.arrive(encode_host_data(HOST, SESSION, connection_id, payload), HOST_AT)
        await turns(5)
        return [data for data, _ in self.client.taken()]


def with_relay(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[WholeRelay], Coroutine[Any, Any, None]],
    **options: Any,
) -> None:
    """Runs a test with one that serves."""

    async def started() -> None:
        async with WholeRelay(folder, monkeypatch, **options).serving() as one:
            await work(one)

    run(started())
