"""Starts relays for tests, and ends them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.integration.config import Sections, SessionKeys, with_forwarder
from tests.integration.hellos import hellos
from tests.integration.relay_process import RelayProcess
from tests.thread.compiled import needs_native

__all__ = ["StartRelay", "forwarder", "hellos", "start_relay"]


class StartRelay(Protocol):
    """Starts `relayd run`; the fixture ends it, and checks that it ends well."""

    def __call__(
        self, sessions: list[SessionKeys] | None, overrides: Sections | None = None, ready: bool = True
    ) -> RelayProcess: ...


@pytest.fixture(scope="module", params=[pytest.param("native", marks=needs_native), "python"])
def forwarder(request: pytest.FixtureRequest) -> str:
    """What serves the sockets. A module that uses it runs once with each; all others with what relayd chooses."""
    chosen: str = request.param
    return chosen


@pytest.fixture(autouse=True)
def _shared_relay_runs(request: pytest.FixtureRequest) -> None:
    """A relay that tests of a module share, and that did not survive one of them, is started again for the next."""
    if "relay" in request.fixturenames:
        shared = request.getfixturevalue("relay")
        if isinstance(shared, RelayProcess) and shared.process.poll() is not None:
            shared.kill()
            shared.__enter__()


@pytest.fixture
def start_relay(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StartRelay]:
    chosen = request.getfixturevalue("forwarder") if "forwarder" in request.fixturenames else None
    with ExitStack() as stack:

        def start(
            sessions: list[SessionKeys] | None, overrides: Sections | None = None, ready: bool = True
        ) -> RelayProcess:
            folder = tmp_path / f"relay-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            if chosen is not None:
                overrides = with_forwarder(chosen, overrides)
            return stack.enter_context(RelayProcess(folder, sessions, overrides, ready=ready))

        yield start
