"""A process goes on where the one before it was, however that ended."""

import errno
import mmap
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data
from relayd.state import layout
from relayd.state.memory import NAME
from tests.support.descriptors import open_descriptors
from tests.support.disks import no_new_file
from tests.unit.state.worlds import ALICE, BOB, HERE, HOST, PAYLOAD, SESSION, SPAN, THERE, C, Life, S, Spans, first_life


def test_bindings_ids_and_counts_go_on(tmp_path: Path) -> None:
    before, connection_id = first_life(tmp_path)
    before.killed()
    life = Life(tmp_path)
    life.authorize(game=(HOST, ALICE, BOB))
    life.restoration.finish()
    assert life.restoration.restored == 2
    session = life.table.by_token[SESSION]
    assert session.host is not None
    assert session.host.address == HERE
    alice = session.users[ALICE]
    assert (alice.connection_id, alice.client_binding is not None) == (connection_id, True)
    assert alice.client_binding is not None
    assert alice.client_binding.address == THERE
    assert not alice.client_binding.connection_undecided
    traffic = session.traffic()
    assert (traffic.to_host_datagrams, traffic.to_player_datagrams) == (1, 1)
    assert life.engine.counters.datagrams[Port.CLIENT][Verdict.FORWARDED] == 1
    assert life.engine.counters.datagrams[Port.SERVER][Verdict.ANSWERED] == 1
    # The game goes on without a word about it.
    action = life.handle(S, encode_host_data(HOST, SESSION, connection_id, b"more"), HERE)
    assert (action.verdict, action.to, action.datagram) == (Verdict.FORWARDED, THERE, b"\x02more")
    life.killed()
    again = Life(tmp_path)
    again.authorize(game=(HOST, ALICE, BOB))
    assert again.table.by_token[SESSION].traffic().to_player_datagrams == 2


def test_counts_of_the_forwarding_thread_are_added(tmp_path: Path) -> None:
    before, _ = first_life(tmp_path)
    binding = before.table.by_token[SESSION].users[ALICE].client_binding
    assert binding is not None
    at = layout.record_at(before.records.slot_of(binding)) + layout.COUNTS_AT + layout.LAST_SEEN.size
    layout.COUNTS.pack_into(before.state.memory, at, 5, 500, 6, 600, *layout.NO_DROPS)
    # Forwarded on the client port, as the first of its decisions.
    struct.pack_into("<QQ", before.state.memory, layout.DECISIONS_AT + len(Verdict) * 16, 5, 500)
    before.killed()
    for _ in range(2):
        life = Life(tmp_path)
        life.authorize(game=(HOST, ALICE))
        traffic = life.table.by_token[SESSION].traffic()
        assert (traffic.to_host_datagrams, traffic.to_player_datagrams) == (6, 7)
        assert life.engine.counters.datagrams[Port.CLIENT][Verdict.FORWARDED] == 6
        life.killed()


def test_whoever_is_no_longer_named_is_given_up(tmp_path: Path) -> None:
    before, _ = first_life(tmp_path)
    before.killed()
    life = Life(tmp_path)
    life.authorize(game=(HOST, BOB))
    life.restoration.finish()
    session = life.table.by_token[SESSION]
    assert (life.restoration.restored, session.bound) == (1, 1)
    used = [
        slot
        for slot in range(1, life.state.slots)
        if layout.decode(life.state.memory[layout.record_at(slot) : layout.record_at(slot) + layout.COUNTS_AT])
    ]
    assert len(used) == 3  # the host's binding and its account, and that of Alice


def test_a_revoked_users_traffic_stays_the_sessions(tmp_path: Path) -> None:
    life, _ = first_life(tmp_path)
    for _ in range(3):
        life.authorize(game=(HOST, BOB))
        life.restoration.finish()
        assert life.table.by_token[SESSION].traffic().to_host_datagrams == 1
        life.killed()
        life = Life(tmp_path)
    life.authorize()
    life.restoration.finish()
    life.killed()
    life = Life(tmp_path)
    life.authorize(game=(HOST, BOB))
    life.restoration.finish()
    assert life.table.by_token[SESSION].traffic().to_host_datagrams == 0


def test_users_revoked_before_and_after_a_restart_are_both_the_sessions(tmp_path: Path) -> None:
    """Nor does it matter that another restart comes before the first one is over."""
    life, _ = first_life(tmp_path)
    life.handle(C, encode_player_data(BOB, SESSION, b"from another"), ("198.51.100.3", 6000))
    life.authorize(game=(HOST, BOB))
    life.killed()
    life = Life(tmp_path)
    life.authorize(game=(HOST, BOB))
    life.authorize(game=(HOST,))
    for _ in range(2):
        life.killed()
        life = Life(tmp_path)
        life.authorize(game=(HOST,))
        life.restoration.finish()
        assert life.table.by_token[SESSION].traffic().to_host_datagrams == 2


def test_a_user_that_left_comes_back_under_its_id(tmp_path: Path) -> None:
    before, connection_id = first_life(tmp_path)
    before.now += 100
    while before.table.expire(before.now, 10):
        pass
    assert before.table.by_token[SESSION].bound == 0
    before.killed()
    life = Life(tmp_path)
    life.authorize(game=(HOST, ALICE))
    assert life.restoration.restored == 0
    alice = life.table.by_token[SESSION].users[ALICE]
    assert (alice.connection_id, alice.client_binding) == (connection_id, None)


def test_sessions_that_ended_are_remembered(tmp_path: Path) -> None:
    before, _ = first_life(tmp_path)
    before.authorize()
    before.killed()
    life = Life(tmp_path)
    life.authorize()
    assert life.handle(C, encode_ping(ALICE, SESSION), THERE).verdict is Verdict.SESSION_ENDED
    life.now += 61
    assert life.handle(C, encode_ping(ALICE, SESSION), THERE).verdict is Verdict.UNKNOWN_PAIR


def test_sockets_bound_elsewhere_keep_counts_and_ids_but_no_bindings(tmp_path: Path) -> None:
    before, connection_id = first_life(tmp_path)
    before.killed()
    life = Life(tmp_path, digest=8)
    life.authorize(game=(HOST, ALICE))
    session = life.table.by_token[SESSION]
    assert (life.restoration.restored, session.bound) == (0, 0)
    assert session.users[ALICE].connection_id == connection_id
    assert session.traffic().to_host_datagrams == 1


@pytest.mark.parametrize(
    ("where", "content", "why"),
    [
        (0, b"not a state file", "not a state file"),
        (8, (99).to_bytes(8, "little"), f"layout {99:016x}, this is"),
        (24, b"\xff\xff\xff\xff", "checksum"),
        (layout.HEADER_CHECKSUM_AT, b"\0\0\0\0", "checksum"),
    ],
)
def test_a_file_that_is_not_right_is_set_aside(
    where: int, content: bytes, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, _ = first_life(tmp_path)
    before.killed()
    with (tmp_path / NAME).open("r+b") as file:
        file.seek(where)
        file.write(content)
    life = Life(tmp_path)
    life.authorize(game=(HOST, ALICE))
    assert (life.restoration.restored, life.state.fresh) == (0, True)
    assert (tmp_path / f"{NAME}.set-aside").exists()
    said = capsys.readouterr().out
    assert "is not used" in said
    assert why in said
    life.killed()
    assert not Life(tmp_path).state.fresh


def times_open(path: Path) -> int:
    return sum(target == str(path) for _, target in open_descriptors())


@pytest.mark.parametrize("size", [1, 4096, 1 << 20])
def test_a_file_that_was_cut_is_set_aside(size: int, tmp_path: Path) -> None:
    before, _ = first_life(tmp_path)
    before.killed()
    with (tmp_path / NAME).open("r+b") as file:
        file.truncate(size)
    held = times_open(tmp_path / NAME)
    assert Life(tmp_path).state.fresh
    aside = tmp_path / f"{NAME}.set-aside"
    assert aside.stat().st_size == size
    # By the life before, which is still in this process, and by nobody else.
    assert times_open(aside) == held


def test_a_record_half_written_is_not_believed_and_the_others_are(tmp_path: Path) -> None:
    before, _ = first_life(tmp_path)
    binding = before.table.by_token[SESSION].users[ALICE].client_binding
    assert binding is not None
    at = layout.record_at(before.records.slot_of(binding))
    before.state.memory[at + 20] ^= 1
    before.killed()
    life = Life(tmp_path)
    life.authorize(game=(HOST, ALICE))
    assert life.restoration.restored == 1
    assert life.table.by_token[SESSION].host is not None


def test_one_file_is_for_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first_life(tmp_path)
    second = Life(tmp_path)
    assert second.state.fresh
    assert "another relayd is using it" in capsys.readouterr().out
    second.authorize(game=(HOST, ALICE))
    assert second.handle(S, encode_ping(HOST, SESSION), HERE).verdict is Verdict.ANSWERED


def test_a_folder_that_cannot_be_had_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    life = Life(tmp_path / "file" / "state")
    said = capsys.readouterr().out
    assert "no state is kept" in said
    assert "Not a directory" in said
    assert "Errno" not in said
    life.authorize(game=(HOST, ALICE))
    assert life.handle(S, encode_ping(HOST, SESSION), HERE).verdict is Verdict.ANSWERED


def test_a_full_disk_leaves_nothing_that_looks_like_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_fd: int, _offset: int, _length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / NAME).write_bytes(b"of something else")
    with monkeypatch.context() as disk:
        disk.setattr(os, "posix_fallocate", full)
        Life(tmp_path)
    said = capsys.readouterr().out
    assert "it is not a state file" in said
    assert "No space left on device" in said
    before, _ = first_life(tmp_path)
    before.killed()
    assert capsys.readouterr().out == ""
    assert not Life(tmp_path).state.fresh
    assert (tmp_path / f"{NAME}.set-aside").read_bytes() == b"of something else"


def test_where_no_other_can_be_made_for_one_that_is_set_aside_no_state_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NAME).write_bytes(b"of something else")
    with monkeypatch.context() as disk:
        disk.setattr(os, "open", no_new_file)
        life = Life(tmp_path)
    assert "No space left on device" in capsys.readouterr().out
    life.authorize(game=(HOST, ALICE))
    assert life.handle(C, encode_ping(ALICE, SESSION), THERE).verdict is Verdict.ANSWERED
    assert not (tmp_path / NAME).exists()


def test_a_file_that_cannot_be_mapped_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first_life(tmp_path)[0].killed()
    real = mmap.mmap

    def without_memory(fd: int, *args: Any, **more: Any) -> mmap.mmap:
        if fd >= 0:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return real(fd, *args, **more)

    with monkeypatch.context() as memory:
        memory.setattr(mmap, "mmap", without_memory)
        life = Life(tmp_path)
    assert "Cannot allocate memory" in capsys.readouterr().out
    assert life.state.fresh
    assert not life.state.same_sockets
    life.killed()
    assert not Life(tmp_path).state.fresh


def test_a_file_in_which_nothing_was_written_yet_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first_life(tmp_path)[0].killed()
    size = (tmp_path / NAME).stat().st_size
    with (tmp_path / NAME).open("wb") as file:
        file.truncate(size)
    assert Life(tmp_path).state.fresh
    assert capsys.readouterr().out == ""
    assert not (tmp_path / f"{NAME}.set-aside").exists()


def test_while_the_rest_is_given_up_whoever_comes_gets_back_what_is_still_there(tmp_path: Path) -> None:
    users = tuple(range(100, 200))
    before = Life(tmp_path)
    before.authorize(game=(HOST, *users))
    for number, user in enumerate(users):
        before.handle(C, encode_ping(user, SESSION), ("203.0.113.1", 1024 + number))
    session = before.table.by_token[SESSION]
    ids = {user: session.users[user].connection_id for user in users}
    before.killed()
    life = Life(tmp_path)
    life.authorize(game=(HOST,))
    steps = life.restoration.finishing()
    for _ in range(len(users) // 2):
        next(steps)
    life.authorize(game=(HOST, *users))
    for _ in steps:
        pass
    assert not life.restoration
    session = life.table.by_token[SESSION]
    assert life.restoration.restored == session.bound == len(users) // 2
    assert {user: session.users[user].connection_id for user in users} == ids
    life.killed()
    again = Life(tmp_path)
    again.authorize(game=(HOST, *users))
    assert again.restoration.restored == len(users) // 2


def test_more_than_the_first_room(tmp_path: Path) -> None:
    users = tuple(range(100, 9100))
    before = Life(tmp_path)
    before.authorize(game=users)
    for number, user in enumerate(users):
        before.handle(C, encode_ping(user, SESSION), ("203.0.113.1", 1024 + number))
    assert before.state.slots > 2 * len(users)
    before.killed()
    life = Life(tmp_path)
    life.authorize(game=users)
    life.restoration.finish()
    assert life.restoration.restored == len(users)
    assert life.table.bound[Port.CLIENT] == len(users)


def test_what_was_counted_for_a_user_of_another_session_with_its_tokens_is_kept_under_its_span(tmp_path: Path) -> None:
    before = Life(tmp_path, spans=Spans())
    before.authorize(game=(HOST, ALICE))
    before.handle(C, encode_ping(ALICE, SESSION), THERE)
    binding = before.table.by_token[SESSION].users[ALICE].client_binding
    assert binding is not None
    at = layout.record_at(before.records.slot_of(binding)) + layout.COUNTS_AT + layout.LAST_SEEN.size
    layout.COUNTS.pack_into(before.state.memory, at, 5, 500, 6, 600, *layout.NO_DROPS)
    before.killed()
    spans = Spans()
    life = Life(tmp_path, spans=spans)
    life.authorize(another=(HOST, ALICE))
    assert life.restoration.restored == 0
    assert life.table.by_token[SESSION].users[ALICE].traffic is None
    life.restoration.finish()
    ((span, counts, slots),) = spans.gone_with
    assert (span, counts.to_host_datagrams, counts.to_player_bytes, len(slots)) == (SPAN, 5, 600, 1)


def test_whoever_is_sent_to_after_a_restart_hears_the_address_that_it_asked(tmp_path: Path) -> None:
    asked = {S: b"\xc0\0\2\7", C: socket.inet_pton(socket.AF_INET6, "fe80::7") + (3).to_bytes(4, sys.byteorder)}
    there = ("fe80::9", 5000, 0, 3)
    before = Life(tmp_path)
    before.authorize(game=(HOST, ALICE))
    before.engine.handle(S, encode_ping(HOST, SESSION), HERE, before.now, asked[S])
    before.engine.handle(C, encode_player_data(ALICE, SESSION, PAYLOAD), there, before.now, asked[C])
    before.killed()
    life = Life(tmp_path)
    life.authorize(game=(HOST, ALICE))
    session = life.table.by_token[SESSION]
    assert session.host is not None
    assert session.host.local == asked[S]
    connection_id = session.users[ALICE].connection_id
    action = life.engine.handle(S, encode_host_data(HOST, SESSION, connection_id, b"more"), HERE, life.now, asked[S])
    assert (action.to, action.local) == (there, asked[C])
