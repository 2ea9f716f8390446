"""`relayd` commands in the process of the test, which ask a relay that is in it too."""

import asyncio
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from relayd.cli import main
from tests.integration.config import Sections, to_toml
from tests.support.admin_server import AdminWorld
from tests.support.virtual_loop import VirtualClockLoop


class Done(NamedTuple):
    """A command that has ended."""

    status: int
    out: str
    err: str


class CommandLine:
    """Runs commands with a configuration file of its own.

    Args:
        folder: for the file.
        capsys: pytest's.
        sections: of the configuration.
    """

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], sections: Sections | None = None) -> None:
        self.config = folder / "relayd.toml"
        # Where no relay of this host is asked instead.
        in_folder = {"state": {"directory": str(folder / "state")}}
        self.config.write_text(to_toml(in_folder | (sections or {})), encoding="utf-8")
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Done:
        self._capsys.readouterr()
        status = main([*arguments, "--config", str(self.config)])
        return Done(status, *self._capsys.readouterr())


class AskedRelay:
    """A relay that commands ask over its admin API. What they sleep passes on its clock.

    Args:
        monkeypatch: has `httpx.request` end here.
        options: see `AdminWorld`.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self._loop = VirtualClockLoop()
        self.runs = True
        self.asked: list[str] = []
        self.world = self._run(_made(options))
        monkeypatch.setattr(httpx, "request", self._request)

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def _request(self, method: str, url: str, params: Any = None, **_: object) -> httpx.Response:
        self.asked.append(f"{method} {httpx.URL(url).path}")
        if not self.runs:
            raise httpx.ConnectError("connection refused")
        answer: httpx.Response = self._run(self.world.client.request(method, httpx.URL(url).path, params=params))
        return answer

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Has something happen while a command waits."""
        self._loop.call_later(seconds, work)

    def clock(self) -> types.SimpleNamespace:
        """For a command, in the place of the module `time`."""
        return types.SimpleNamespace(monotonic=self._loop.time, sleep=self.sleep, time_ns=lambda: 1)

    def sleep(self, seconds: float) -> None:
        self._run(asyncio.sleep(seconds))

    def close(self) -> None:
        self._run(self.world.client.aclose())
        self._loop.close()


async def _made(options: dict[str, Any]) -> AdminWorld:
    return AdminWorld(**options)
