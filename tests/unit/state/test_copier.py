"""The relay's side of its copy: what copies is followed, started again, and not waited for without end."""

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relayd.event_loop.threads import DaemonThreads
from relayd.state import copier, layout
from relayd.state.copier import Copier
from relayd.state.memory import NAME, StateMemory
from tests.integration.waiting import PATIENCE_SECONDS, eventually

BEHIND = "the copy of the state is behind"
UP_TO_DATE = "the copy of the state is up to date again"


@pytest.fixture
def state(tmp_path: Path) -> StateMemory:
    (tmp_path / "memory").mkdir()
    state = StateMemory(tmp_path / "disk", 7, tmp_path / "memory")
    state.beat()
    return state


def started(state: StateMemory) -> Copier:
    assert state.copies is not None
    return Copier(*state.copies)


def finish(one: Copier) -> None:
    async def work() -> None:
        asyncio.get_running_loop().set_default_executor(DaemonThreads())
        await one.finish()

    asyncio.run(work())


def program(folder: Path, text: str) -> str:
    """Something else in the place of Python."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="ascii")
    path.chmod(stat.S_IRWXU)
    return str(path)


def test_at_the_end_the_copy_has_the_last_of_it(
    state: StateMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copier, "_LAST_ROUND_SECONDS", PATIENCE_SECONDS)
    with capture_logs() as logs:
        one = started(state)
        state.memory[layout.record_at(3)] = 1
        state.beat()
        finish(one)
    assert logs == []
    assert (tmp_path / "disk" / NAME).read_bytes() == state.memory[:]
    state.close()


def test_it_is_said_once_why_it_is_behind_and_once_when_it_is_not(
    state: StateMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = tmp_path / "goes on"
    text = f'echo no room; echo no room; while [ ! -e "{goes_on}" ]; do sleep 0.01; done; echo; cat >/dev/null'
    monkeypatch.setattr(sys, "executable", program(tmp_path, text))
    with capture_logs() as logs:
        one = started(state)
        eventually(lambda: logs, "it is said")
        goes_on.touch()
        eventually(lambda: len(logs) > 1, "it is said")
        finish(one)
    assert [(line["event"], line.get("why")) for line in logs] == [(BEHIND, "no room"), (UP_TO_DATE, None)]
    state.close()


def test_one_that_ends_by_itself_is_started_again(
    state: StateMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copier, "_AGAIN_SECONDS", 0.01)
    times = tmp_path / "times"
    text = f'echo >> "{times}"; [ $(wc -l < "{times}") -gt 1 ] || kill -9 $$; echo; cat >/dev/null'
    monkeypatch.setattr(sys, "executable", program(tmp_path, text))
    with capture_logs() as logs:
        one = started(state)
        eventually(lambda: len(logs) > 1, "it is said")
        finish(one)
    why = f"what copies it ended with status {-signal.SIGKILL}, and is started again"
    assert [(line["event"], line.get("why")) for line in logs] == [(BEHIND, why), (UP_TO_DATE, None)]
    state.close()


def test_one_that_cannot_be_started_is_said(
    state: StateMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "away"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    with capture_logs() as logs:
        one = started(state)
        eventually(lambda: logs, "it is said")
        finish(one)
    assert [line["why"] for line in logs] == ["what copies it cannot be started: No such file or directory"]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    state.close()


def test_a_disk_that_hangs_is_told_and_not_waited_for(
    state: StateMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copier, "_QUIET_SECONDS", 0.01)
    monkeypatch.setattr(copier, "_LAST_ROUND_SECONDS", 0.01)
    monkeypatch.setattr(sys, "executable", program(tmp_path, "exec sleep 1000"))
    with capture_logs() as logs:
        one = started(state)
        eventually(lambda: logs, "it is said")
        finish(one)
    assert {line["why"] for line in logs} == {"the disk hangs", "the last copy takes longer than 0.01 s"}
    assert one._thread.is_alive()
    for child in Path(f"/proc/self/task/{one._thread.native_id}/children").read_text(encoding="ascii").split():
        os.kill(int(child), signal.SIGKILL)
    one._thread.join()
    state.close()
