"""`relayd run`: what the relay is given, and which signal does what."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relayd.commands import run as command
from relayd.supervision.liveness import EXTENSION
from tests.support.command_line import CommandLine
from tests.support.managers import ListeningManager
from tests.support.virtual_loop import run

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class FakeSuccessor:
    def __init__(self) -> None:
        self.did: list[str] = []

    def hold_reloads(self) -> None:
        self.did.append("held")

    def replace_this_program(self) -> None:
        self.did.append("replaced")


class FakeRelay:
    """Serves until it is stopped; each signal is sent to this process while it does."""

    made: "FakeRelay"
    sends: tuple[int, ...] = ()
    successor_of_all: FakeSuccessor | None = None

    def __init__(self, settings: Any, **options: Any) -> None:
        FakeRelay.made = self
        self.settings = settings
        self.options = options
        self.did: list[str] = []
        self.successor = FakeRelay.successor_of_all

    async def serve(self) -> None:
        for number in FakeRelay.sends:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.1)

    def terminate(self) -> None:
        self.did.append("terminate")

    def stop(self) -> None:
        self.did.append("stop")

    def reload(self) -> None:
        self.did.append("reload")


@pytest.fixture(autouse=True)
def fake_relay(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    monkeypatch.setattr(command, "Relay", FakeRelay)
    monkeypatch.setattr(command, "run_loop", run)
    monkeypatch.setattr("relayd.log.configure", lambda *_: None)
    monkeypatch.setattr(FakeRelay, "sends", ())
    monkeypatch.setattr(FakeRelay, "successor_of_all", None)
    for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"):
        monkeypatch.delenv(name, raising=False)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_each_signal_does_what_it_is_for(relayd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRelay, "sends", (signal.SIGHUP, signal.SIGTERM, signal.SIGINT))
    assert relayd("run").status == 0
    assert FakeRelay.made.did == ["reload", "terminate", "stop"]


def test_the_fast_path_stays_unless_it_is_to_go(relayd: CommandLine) -> None:
    relayd("run")
    assert FakeRelay.made.options["remove_fast_path"] is False
    relayd("run", "--detach-on-exit")
    assert FakeRelay.made.options["remove_fast_path"] is True


def test_its_manager_hears_of_it_first(relayd: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listening = ListeningManager(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", listening.address)
    monkeypatch.setenv("WATCHDOG_USEC", "8000000")
    relayd("run")
    assert listening.lines() == [EXTENSION]
    manager = FakeRelay.made.options["manager"]
    assert manager.watchdog_seconds == 8.0
    assert "NOTIFY_SOCKET" not in os.environ, "what it starts is no service"
    assert FakeRelay.made.options["environment"]["NOTIFY_SOCKET"] == listening.address, "its successor is one"
    manager.close()
    listening.close()


def test_its_successor_takes_over_when_it_has_ended(relayd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    successor = FakeSuccessor()
    monkeypatch.setattr(FakeRelay, "successor_of_all", successor)
    relayd("run")
    assert successor.did == ["held", "replaced"]
