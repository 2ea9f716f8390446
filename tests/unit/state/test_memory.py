"""The state file as memory: where there is none, nothing else is touched."""

import os
from pathlib import Path

import pytest

from relayd.state import layout
from relayd.state.memory import StateMemory


def test_memory_alone_has_room_and_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[tuple[object, ...]] = []
    for name in ("close", "posix_fallocate", "ftruncate"):
        monkeypatch.setattr(os, name, lambda *arguments: touched.append(arguments))
    state = StateMemory(None, 7)
    assert (state.fresh, state.same_sockets, state.slots) == (True, False, 8192)
    assert state.grow()
    assert state.slots == 2 * 8192
    state.close()
    assert touched == []


def test_no_more_room_than_there_are_records() -> None:
    state = StateMemory(None, 7)
    state.slots = layout.SLOTS - 8192
    assert state.grow()
    assert state.slots == layout.SLOTS
    assert not state.grow()


def test_room_is_made_before_it_is_used(tmp_path: Path) -> None:
    state = StateMemory(tmp_path, 7)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size == layout.FILE_BYTES
    assert path.stat().st_blocks * 512 >= layout.record_at(state.slots)
    assert path.stat().st_mode & 0o777 == 0o600
    state.close()


def test_of_a_file_that_is_used_before_it_is_told_how_long_nobody_was_there(tmp_path: Path) -> None:
    state = StateMemory(tmp_path, 7)
    assert state.silent_seconds() is None
    state.beat()
    silent = state.silent_seconds()
    assert silent is not None
    assert silent >= 0
    layout.HEARTBEAT.pack_into(state.memory, layout.HEARTBEAT_AT, bytes(16), 0.0)
    assert state.silent_seconds() is None
    state.close()
    again = StateMemory(tmp_path, 7)
    assert (again.fresh, again.same_sockets) == (False, True)
    again.close()
    other = StateMemory(tmp_path, 8)
    assert (other.fresh, other.same_sockets) == (False, False)
    other.close()
