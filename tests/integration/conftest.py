"""Starts relays for tests, and ends them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.integration.config import Sections, SessionKeys
from tests.integration.relay_process import RelayProcess


class StartRelay(Protocol):
    """Starts `relayd run`; the fixture ends it, and checks that it ends well."""

    def __call__(
        self, sessions: list[SessionKeys] | None, overrides: Sections | None = None, ready: bool = True
    ) -> RelayProcess: ...


@pytest.fixture
def start_relay(tmp_path: Path) -> Iterator[StartRelay]:
    with ExitStack() as stack:

        def start(
            sessions: list[SessionKeys] | None, overrides: Sections | None = None, ready: bool = True
        ) -> RelayProcess:
            folder = tmp_path / f"relay-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return stack.enter_context(RelayProcess(folder, sessions, overrides, ready=ready))

        yield start
