"""What a process before left is not believed where it is too old, of another session, or not allowed any more."""

from pathlib import Path

from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.limits import Limits
from relayd.core.wire import encode_player_data
from relayd.state import layout
from relayd.state.memory import NAME
from tests.unit.state.worlds import (
    ALICE,
    BOB,
    HERE,
    HOST,
    PAYLOAD,
    SESSION,
    THERE,
    TIMEOUT_SECONDS,
    C,
    Life,
    first_life,
)


def age(folder: Path, seconds: float) -> None:
    """As if the process before had ended so long ago."""
    with (folder / NAME).open("r+b") as file:
        file.seek(layout.HEARTBEAT_AT)
        boot, beat = layout.HEARTBEAT.unpack(file.read(layout.HEARTBEAT.size))
        file.seek(layout.HEARTBEAT_AT)
        file.write(layout.HEARTBEAT.pack(boot, beat - seconds))


def test_bindings_that_are_too_old_stay_too_old_and_their_counts_are_kept(tmp_path: Path) -> None:
    before, _ = first_life(tmp_path)
    binding = before.table.by_token[SESSION].users[ALICE].client_binding
    assert binding is not None
    at = layout.record_at(before.records.slot_of(binding)) + layout.COUNTS_AT + layout.LAST_SEEN.size
    layout.COUNTS.pack_into(before.state.memory, at, 5, 500, 6, 600, *layout.NO_DROPS)
    before.killed()
    age(tmp_path, TIMEOUT_SECONDS + 1)
    # It ended before it heard of any session, then it was started again: the file was used a moment before.
    Life(tmp_path).killed()
    for _ in range(2):
        life = Life(tmp_path)
        life.authorize(game=(HOST, ALICE, BOB))
        life.restoration.finish()
        session = life.table.by_token[SESSION]
        assert (life.restoration.restored, session.bound) == (0, 0)
        assert (session.traffic().to_host_datagrams, session.traffic().to_player_datagrams) == (6, 7)
        life.killed()


def test_ends_of_sessions_before_a_reboot_are_forgotten(tmp_path: Path) -> None:
    before, _ = first_life(tmp_path)
    before.authorize()
    before.killed()
    with (tmp_path / NAME).open("r+b") as file:
        file.seek(layout.HEARTBEAT_AT)
        file.write(bytes(16))
    for _ in range(2):
        life = Life(tmp_path)
        assert not life.table.ended_recently(SESSION, life.now)
        life.killed()


def test_a_user_that_was_let_in_again_is_not_given_the_id_it_had_before(tmp_path: Path) -> None:
    before, connection_id = first_life(tmp_path)
    before.authorize(game=(HOST, BOB))
    before.authorize(game=(HOST, ALICE, BOB))
    before.handle(C, encode_player_data(ALICE, SESSION, PAYLOAD), THERE)
    new_id = before.table.by_token[SESSION].users[ALICE].connection_id
    before.now += 100
    while before.table.expire(before.now, 10):
        pass
    before.killed()
    life = Life(tmp_path)
    life.authorize(game=(HOST, ALICE, BOB))
    assert life.table.by_token[SESSION].users[ALICE].connection_id == new_id != connection_id


def test_another_session_with_the_same_tokens_gets_nothing(tmp_path: Path) -> None:
    before, connection_id = first_life(tmp_path)
    before.killed()
    life = Life(tmp_path)
    life.authorize(another=(HOST, ALICE, BOB))
    life.restoration.finish()
    session = life.table.by_token[SESSION]
    assert (life.restoration.restored, session.bound, session.traffic().to_host_datagrams) == (0, 0, 0)
    assert session.users[ALICE].connection_id != connection_id


def test_nobody_is_bound_again_by_a_session_source_that_comes_too_late(tmp_path: Path) -> None:
    before, _ = first_life(tmp_path)
    before.killed()
    life = Life(tmp_path)
    life.now += TIMEOUT_SECONDS
    life.authorize(game=(HOST, ALICE))
    session = life.table.by_token[SESSION]
    assert (life.restoration.restored, session.bound, session.traffic().to_host_datagrams) == (0, 0, 1)


def test_nobody_is_bound_again_where_only_another_address_may(tmp_path: Path) -> None:
    before, _ = first_life(tmp_path)
    before.killed()
    life = Life(tmp_path)
    life.table.limits = Limits(user_timeout=TIMEOUT_SECONDS, pin_ip=True)
    users = UserSpec(HOST, HERE[0]), UserSpec(ALICE, "203.0.113.9")
    life.table.apply(Snapshot.of([SessionSpec("game", SESSION, users)]), life.now)
    session = life.table.by_token[SESSION]
    assert session.host is not None
    assert (life.restoration.restored, session.users[ALICE].client_binding) == (1, None)


def test_a_file_that_was_copied_gets_its_room_back(tmp_path: Path) -> None:
    """A full disk would end the process by a signal, at the first write to where the file has a hole."""
    before, _ = first_life(tmp_path)
    before.killed()
    content = (tmp_path / NAME).read_bytes()
    with (tmp_path / NAME).open("wb") as copy:
        for at in range(0, len(content), 4096):
            page = content[at : at + 4096]
            copy.seek(at)
            if any(page):
                copy.write(page)
        copy.truncate(len(content))
    life = Life(tmp_path)
    assert life.state.slots > 0
    assert 512 * (tmp_path / NAME).stat().st_blocks >= layout.record_at(life.state.slots)
    life.authorize(game=(HOST, ALICE))
    assert life.restoration.restored == 2
