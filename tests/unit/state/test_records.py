"""What is written down of bindings and users, read as the next process reads it."""

from pathlib import Path

import pytest

from relayd.core.counters import Traffic
from relayd.core.session import Binding
from relayd.core.wire import Port, encode_ping
from relayd.state import layout
from relayd.state.layout import NO_SPAN, Identity, Kind
from relayd.state.memory import StateMemory
from relayd.state.records import Records
from tests.unit.state.worlds import ALICE, BOB, HERE, HOST, SESSION, SPAN, THERE, C, Life, S, Spans


def written(life: Life) -> dict[int, Identity]:
    """By slot."""
    return {slot: identity for slot, identity, _ in layout.records(life.state.memory, life.state.slots)}


def counted(life: Life, kind: Kind, user: int) -> tuple[int, int, int, int]:
    (counts,) = (
        counts
        for _, identity, counts in layout.records(life.state.memory, life.state.slots)
        if (identity.kind, identity.user) == (kind, user)
    )
    return counts


def playing(folder: Path) -> Life:
    """A host and Alice are bound; Bob has yet to come."""
    life = Life(folder)
    life.authorize(game=(HOST, ALICE, BOB))
    life.handle(S, encode_ping(HOST, SESSION), HERE)
    life.handle(C, encode_ping(ALICE, SESSION), THERE)
    return life


def binding(life: Life, user: int, port: Port = Port.CLIENT) -> Binding:
    found = life.table.by_token[SESSION].users[user].binding_on(port)
    assert found is not None
    return found


def count(life: Life, user: int, *counts: int) -> None:
    traffic = life.table.by_token[SESSION].users[user].traffic
    assert traffic is not None
    traffic.count(*counts)
    life.records.account(life.table.by_token[SESSION].users[user])


def test_a_binding_and_an_account_for_each_who_came(tmp_path: Path) -> None:
    life = playing(tmp_path)
    game = layout.game_of("game")
    alice_id = life.table.by_token[SESSION].users[ALICE].connection_id
    found = written(life)
    assert sorted(found) == [1, 2, 3, 4]
    assert {(one.kind, one.user): one.connection_id for one in found.values()} == {
        (Kind.BINDING, HOST): 0,
        (Kind.ACCOUNT, HOST): 0,
        (Kind.BINDING, ALICE): alice_id,
        (Kind.ACCOUNT, ALICE): alice_id,
    }
    assert {(one.session, one.game) for one in found.values()} == {(SESSION, game)}
    (account,) = (one for one in found.values() if (one.kind, one.user) == (Kind.ACCOUNT, ALICE))
    assert account == Identity(
        Kind.ACCOUNT, 0, False, 0, 0, 0, ALICE, SESSION, alice_id, 0, NO_SPAN, layout.NO_LOCAL, game
    )
    alice = found[life.records.slot_of(binding(life, ALICE))]
    assert (alice.kind, alice.port, alice.endpoint, alice.peer_port) == (Kind.BINDING, Port.CLIENT, C.number, THERE[1])
    assert life.records.slot_of(Binding(life.table.by_token[SESSION].users[BOB], C, THERE, 0.0)) == 0


def test_an_account_says_what_its_user_has(tmp_path: Path) -> None:
    life = playing(tmp_path)
    count(life, ALICE, 3, 300, 2, 200)
    assert counted(life, Kind.ACCOUNT, ALICE) == (3, 300, 2, 200)
    assert counted(life, Kind.BINDING, ALICE) == (0, 0, 0, 0)
    count(life, ALICE, 1, 10, 0, 0)
    assert counted(life, Kind.ACCOUNT, ALICE) == (4, 310, 2, 200)


def test_a_player_that_gets_another_id_has_it_written_down_with_its_counts(tmp_path: Path) -> None:
    life = playing(tmp_path)
    count(life, ALICE, 3, 300, 2, 200)
    user = life.table.by_token[SESSION].users[ALICE]
    user.set_connection_id(user.connection_id + 7)
    life.records.account(user)
    (account,) = (one for one in written(life).values() if (one.kind, one.user) == (Kind.ACCOUNT, ALICE))
    assert account.connection_id == user.connection_id
    assert counted(life, Kind.ACCOUNT, ALICE) == (3, 300, 2, 200)


def test_a_binding_that_ends_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    life = playing(tmp_path)
    slot = life.records.slot_of(binding(life, ALICE))
    life.now += 31.0
    life.table.expire(life.now, 100)
    assert {(one.kind, one.user) for one in written(life).values()} == {(Kind.ACCOUNT, HOST), (Kind.ACCOUNT, ALICE)}
    assert life.state.memory[layout.record_at(slot) : layout.record_at(slot + 1)] == bytes(layout.RECORD_BYTES)
    life.handle(C, encode_ping(BOB, SESSION), THERE)
    assert life.records.slot_of(binding(life, BOB)) in {1, 3}
    assert sorted(written(life)) == [1, 2, 3, 4]


def test_what_was_counted_in_a_place_is_not_the_nexts(tmp_path: Path) -> None:
    life = playing(tmp_path)
    slot = life.records.slot_of(binding(life, ALICE))
    at = layout.record_at(slot) + layout.COUNTS_AT
    life.state.memory[at : at + 8] = layout.LAST_SEEN.pack(990.5)
    assert life.records.last_seen(slot) == 990.5
    life.now += 31.0
    life.table.expire(life.now, 100)
    assert life.records.last_seen(slot) == 0.0


def test_of_a_user_who_is_revoked_the_session_keeps_the_counts(tmp_path: Path) -> None:
    life = playing(tmp_path)
    count(life, ALICE, 3, 300, 2, 200)
    life.authorize(game=(HOST, BOB))
    found = written(life)
    assert {(one.kind, one.user) for one in found.values()} == {
        (Kind.BINDING, HOST),
        (Kind.ACCOUNT, HOST),
        (Kind.REVOKED, 0),
    }
    (sum_,) = (one for one in found.values() if one.kind is Kind.REVOKED)
    assert (sum_.session, sum_.game, sum_.ip, sum_.connection_id) == (SESSION, layout.game_of("game"), NO_SPAN, 0)
    assert counted(life, Kind.REVOKED, 0) == (3, 300, 2, 200)
    life.handle(C, encode_ping(BOB, SESSION), THERE)
    count(life, BOB, 1, 1, 1, 1)
    life.authorize(game=(HOST,))
    assert counted(life, Kind.REVOKED, 0) == (4, 301, 3, 201)


def test_a_user_who_comes_again_has_an_account_of_its_own(tmp_path: Path) -> None:
    life = playing(tmp_path)
    count(life, ALICE, 3, 300, 2, 200)
    life.authorize(game=(HOST, BOB))
    life.authorize(game=(HOST, ALICE, BOB))
    life.handle(C, encode_ping(ALICE, SESSION), THERE)
    assert counted(life, Kind.ACCOUNT, ALICE) == (0, 0, 0, 0)
    assert counted(life, Kind.REVOKED, 0) == (3, 300, 2, 200)


def test_a_session_that_ends_leaves_a_tombstone_and_nothing_else(tmp_path: Path) -> None:
    life = playing(tmp_path)
    life.authorize(game=(HOST, BOB))
    life.authorize()
    assert written(life) == {}
    assert life.records._free
    assert min(life.records._free) > 0
    tombstone = layout.TOMBSTONE.unpack_from(life.state.memory, layout.TOMBSTONES_AT)
    assert tombstone == (SESSION, 1, life.now + 60.0)


def test_tombstones_go_over_the_oldest(tmp_path: Path) -> None:
    life = Life(tmp_path)
    for number in range(layout.TOMBSTONES + 1):
        life.records.write_tombstone(1000 + number, 5.0 + number)
    tokens = [
        layout.TOMBSTONE.unpack_from(life.state.memory, layout.TOMBSTONES_AT + number * layout.TOMBSTONE.size)[0]
        for number in (0, 1, layout.TOMBSTONES - 1)
    ]
    assert tokens == [1000 + layout.TOMBSTONES, 1001, 1000 + layout.TOMBSTONES - 1]


def test_where_usage_is_recorded_accounts_name_their_span_and_outlive_their_session(tmp_path: Path) -> None:
    spans = Spans()
    life = Life(tmp_path, spans=spans)
    life.authorize(game=(HOST, ALICE, BOB))
    life.handle(C, encode_ping(ALICE, SESSION), THERE)
    life.handle(C, encode_ping(BOB, SESSION), THERE)
    count(life, ALICE, 3, 300, 2, 200)
    assert {one.ip for one in written(life).values() if one.kind is Kind.ACCOUNT} == {SPAN}
    life.authorize(game=(HOST, ALICE))
    assert {one.ip for one in written(life).values() if one.kind is Kind.REVOKED} == {SPAN}
    life.authorize()
    assert {(one.kind, one.user, one.ip) for one in written(life).values()} == {
        (Kind.FORMER, ALICE, SPAN),
        (Kind.FORMER, 0, SPAN),
    }
    assert counted(life, Kind.FORMER, ALICE) == (3, 300, 2, 200)
    assert [sorted(slots) for slots in spans.ended_with] == [sorted(written(life))]


def test_a_damaged_account_of_a_session_that_ended_is_left_as_it_is(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.records.keep_until_recorded(5)
    assert written(life) == {}


def test_counts_that_nobody_goes_on_with_can_be_added_to(tmp_path: Path) -> None:
    life = playing(tmp_path)
    count(life, ALICE, 3, 300, 2, 200)
    (slot,) = (slot for slot, one in written(life).items() if (one.kind, one.user) == (Kind.ACCOUNT, ALICE))
    more = Traffic()
    more.count(1, 20, 4, 50)
    life.records.add_counts(slot, more)
    assert counted(life, Kind.ACCOUNT, ALICE) == (4, 320, 6, 250)


def test_of_what_is_disbelieved_only_whose_it_was_and_the_counts_stay(tmp_path: Path) -> None:
    life = playing(tmp_path)
    slot = life.records.slot_of(binding(life, ALICE))
    before = written(life)[slot]
    after = life.records.invalidate_address(slot, before)
    assert written(life)[slot] == after
    assert after == before._replace(endpoint=layout.NOWHERE, family=0, peer_port=0, scope=0, ip=bytes(16))


def test_without_room_nobody_is_written_down_and_the_game_goes_on() -> None:
    state = StateMemory(None, 7)
    records = Records(state, lambda: 0.0)
    records.begin_after(state.slots, [])
    state.slots = layout.SLOTS
    records.begin_after(layout.SLOTS, [3])
    assert [records._take(), records._take(), records._take()] == [3, 0, 0]


@pytest.mark.parametrize("fresh", [True, False])
def test_counts_go_on_where_there_was_a_process_before(tmp_path: Path, fresh: bool) -> None:
    life = playing(tmp_path)
    if not fresh:
        life.killed()
        life = Life(tmp_path)
    assert life.records.go_on is not fresh


def test_a_session_that_nobody_was_revoked_from_gives_only_its_accounts_free(tmp_path: Path) -> None:
    life = playing(tmp_path)
    taken = set(written(life))
    life.authorize()
    assert set(life.records._free) == taken
