"""What is found in the file of the process before: of two records of the same, one is believed."""

from pathlib import Path

import pytest

from relayd.core.wire import encode_ping
from relayd.state import layout
from relayd.state.layout import Kind
from tests.unit.state.worlds import ALICE, BOB, HERE, HOST, SESSION, THERE, C, Life, S


def records_of(life: Life) -> list[tuple[int, Kind, int]]:
    return [(slot, one.kind, one.user) for slot, one, _ in layout.records(life.state.memory, life.state.slots)]


@pytest.fixture(name="before")
def _before(tmp_path: Path) -> Life:
    """A host and Alice are bound, and Bob was, who was revoked."""
    life = Life(tmp_path)
    life.authorize(game=(HOST, ALICE, BOB))
    life.handle(S, encode_ping(HOST, SESSION), HERE)
    life.handle(C, encode_ping(ALICE, SESSION), THERE)
    life.handle(C, encode_ping(BOB, SESSION), HERE)
    life.authorize(game=(HOST, ALICE))
    return life


@pytest.mark.parametrize(("kind", "user"), [(Kind.BINDING, ALICE), (Kind.ACCOUNT, ALICE)])
def test_of_two_records_of_the_same_the_first_is_believed(before: Life, tmp_path: Path, kind: Kind, user: int) -> None:
    found = records_of(before)
    (slot,) = (slot for slot, *what in found if what == [kind, user])
    at, again = layout.record_at(slot), layout.record_at(50)
    before.state.memory[again : again + layout.RECORD_BYTES] = before.state.memory[at : at + layout.RECORD_BYTES]
    before.killed()
    life = Life(tmp_path)
    assert records_of(life) == found
    life.authorize(game=(HOST, ALICE))
    life.restoration.finish()
    assert {user for _, kind, user in records_of(life) if kind is Kind.BINDING} == {HOST, ALICE}


def test_places_between_those_in_use_are_given_out_first(before: Life, tmp_path: Path) -> None:
    used = {slot for slot, *_ in records_of(before)}
    free = set(range(1, max(used))) - used
    assert free
    before.killed()
    life = Life(tmp_path)
    assert {life.records._take() for _ in free} == free
    assert life.records._take() == max(used) + 1
