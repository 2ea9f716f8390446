"""A command line, and a relay for its commands to ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.command_line import AskedRelay, CommandLine


@pytest.fixture
def relayd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, capsys)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[AskedRelay]:
    monkeypatch.setenv("COLUMNS", "200")
    relay = AskedRelay(monkeypatch)
    with capture_logs():  # what the relay has to say is in another process's output
        yield relay
    relay.close()
