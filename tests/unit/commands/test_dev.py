"""`relayd dev`: control plane, relay and game in one process, without a network."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from relayd import app
from relayd.admin import listeners
from relayd.app import Relay
from relayd.commands import dev as command
from relayd.core.relay_session import RelaySession
from relayd.errors import FatalError
from relayd.settings import Settings
from tests.support import local_http
from tests.support.command_line import CommandLine, Done
from tests.support.sockets import fake, fake_ports
from tests.support.virtual_loop import run
from tests.support.wires import lay_wires


class Laptop:
    """Both servers listen in folders, and clients ask the control plane there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        sockets = fake_ports()
        for name in ("api", "admin"):
            (folder / name).mkdir()
        lay_wires(monkeypatch, fake(sockets[0]), fake(sockets[1]))
        monkeypatch.setattr(app, "open_sockets", lambda *_: (sockets, []))
        monkeypatch.setattr(listeners, "listen", lambda *_: local_http.listener(folder / "admin"))
        monkeypatch.setattr(command, "listen", lambda *_: local_http.listener(folder / "api"))
        monkeypatch.setattr("relayd.log.configure", lambda *_: None)
        # uvloop reads sockets by itself, and these are read by their methods.
        monkeypatch.setattr(command, "run_loop", asyncio.run)
        make = httpx.AsyncClient
        uds = str(folder / "api" / "http")
        monkeypatch.setattr(
            httpx, "AsyncClient", lambda **options: make(transport=httpx.AsyncHTTPTransport(uds=uds), **options)
        )

    def dev(self, *arguments: str) -> Done:
        sections: dict[str, dict[str, Any]] = {
            "relay": {"forwarder": "python"},
            "fast_path": {"mode": "off", "pin_directory": str(self.folder / "pins")},
            "usage": {"interval": 0},
        }
        with capture_logs():
            return CommandLine(self.folder, self.capsys, sections)("dev", *arguments)


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Laptop]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Laptop(tmp_path, monkeypatch, capsys)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_game_is_played_and_its_end_is_said(laptop: Laptop) -> None:
    done = laptop.dev("--players", "2", "--for", "1")
    assert done.status == 0, done
    assert "every player was let in and nothing was lost" in done.out


def test_without_a_game_there_are_values_to_paste(laptop: Laptop) -> None:
    done = laptop.dev("--for", "0.5")
    assert done.status == 0
    lines = {line.split()[0]: line for line in done.out.splitlines() if line}
    assert "server port 32000, client port 32001" in lines["relay"]
    assert len(lines["players"].split(",")) == 4
    assert lines["session"]
    assert f"token {lines['API'].split()[-1]}" in done.out, "the key works as it is printed"


def test_what_the_command_line_says_goes_before_the_configuration(laptop: Laptop) -> None:
    done = laptop.dev("--for", "0.5", "--public-ip", "2001:DB8::7", "--port", "4000", "--api-port", "4080")
    assert done.status == 0, done
    assert "relay       2001:db8::7, server port 4000, client port 4001\n" in done.out
    assert "API         http://127.0.0.1:4080," in done.out


def test_the_ports_it_prints_are_those_that_sessions_name(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAYD_RELAY__PUBLIC_SERVER_PORT", "40000")
    monkeypatch.setenv("RELAYD_RELAY__PUBLIC_CLIENT_PORT", "40001")
    done = laptop.dev("--players", "1", "--for", "0.5")
    assert "server port 40000, client port 40001" in done.out
    assert "nothing was lost" in done.out, "the game of this machine goes to the ports that are bound"


@pytest.mark.parametrize("there", [True, False])
def test_the_socket_it_prints_is_the_one_that_it_serves(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool
) -> None:
    served = tmp_path / "elsewhere.sock" if there else None
    monkeypatch.setattr(Relay, "admin_socket", property(lambda _: served))
    out = laptop.dev("--for", "0.5").out
    assert (f"commands    RELAYD_ADMIN__SOCKET={served} relayd top\n" in out) == there
    assert ("--unix-socket" in out) == there


def test_a_signal_ends_it(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    introduce = command._introduce

    def then_interrupt(*arguments: Any) -> None:
        introduce(*arguments)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(command, "_introduce", then_interrupt)
    assert laptop.dev().status == 0


UNPLACED = {"error": "no relay is alive", "status": "Error"}

# A session of its own ---------------------------------------------------------------------------------------


def created(monkeypatch: pytest.MonkeyPatch, *sessions: dict[str, Any]) -> RelaySession:
    """A control plane whose sessions are like this, one after the other, and then always like the last."""
    shown = iter(sessions)
    last: dict[str, Any] = {}

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal last
        last = next(shown, last)
        return httpx.Response(200, json={"session_id": "game", "ready": False, "status": "Initializing", **last})

    make = httpx.AsyncClient
    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(httpx, "AsyncClient", lambda **options: make(transport=transport, **options))
    return run(command._create_session(Settings(), "key", 2))


def test_a_session_that_cannot_be_placed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FatalError, match="no relay is alive"):
        created(monkeypatch, UNPLACED)


def test_a_relay_whose_heartbeat_is_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = {"ready": True, "status": "Ready", "authorization_token": 7}
    assert created(monkeypatch, UNPLACED, UNPLACED, {}, ready).authorization_token == 7


def test_a_session_that_no_relay_takes_is_waited_for_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FatalError, match="within 10 s"):
        created(monkeypatch, {})


# A laptop's settings ----------------------------------------------------------------------------------------


def test_what_is_not_configured_suits_trying_things_out() -> None:
    settings = command._for_a_laptop(Settings())
    assert settings.limits.session_idle_timeout == 0.0
    assert settings.api.database == ":memory:"
    assert settings.api.webhook_allow_private


def test_what_is_configured_stays() -> None:
    given = {
        "limits": {"session_idle_timeout": 7},
        "api": {"database": "/tmp/x.db", "webhook_allow_private": False},
    }
    settings = command._for_a_laptop(Settings.model_validate(given))
    assert settings.limits.session_idle_timeout == 7
    assert (settings.api.database, settings.api.webhook_allow_private) == ("/tmp/x.db", False)


def test_nobody_waits_for_what_is_over() -> None:
    async def work() -> bool:
        over = asyncio.Event()
        over.set()
        return await command._play(None, None, over, None)  # type: ignore[arg-type]  # nothing is printed

    assert run(work())
