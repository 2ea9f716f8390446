"""When the garbage collector is kept away, and that it comes back."""

import gc
from collections.abc import Iterator

import pytest

from relayd.core.events import Event, EventKind
from relayd.event_loop import garbage
from relayd.event_loop.garbage import Growth, many_new_objects
from tests.support.relays import running


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


def test_nothing_is_collected_while_many_objects_are_made_and_what_was_made_is_exempt() -> None:
    before = gc.get_freeze_count()
    with many_new_objects():
        assert not gc.isenabled()
        kept = [[number] for number in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(kept)


def test_the_inner_one_of_two_leaves_it_to_the_outer() -> None:
    with many_new_objects():
        with many_new_objects():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_comes_back_after_a_failure() -> None:
    def fail() -> None:
        with many_new_objects():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert gc.isenabled()


SESSION = running().table.sessions["game"]
BOUND, MOVED = Event(EventKind.USER_BOUND, SESSION), Event(EventKind.USER_MOVED, SESSION)


def test_a_table_that_grows_is_settled_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    settled: list[int] = []
    growth = Growth()
    monkeypatch.setattr(garbage, "settle", lambda: settled.append(1))
    for _ in range(garbage._GROWTH_BEFORE_SETTLING * 3 - 1):
        growth.event(BOUND)
    growth.event(MOVED)
    assert len(settled) == 2
    growth.event(BOUND)
    assert len(settled) == 3


def test_it_is_not_settled_while_nothing_is_collected_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    settled: list[int] = []
    growth = Growth()
    monkeypatch.setattr(garbage, "settle", lambda: settled.append(1))
    gc.disable()
    for _ in range(garbage._GROWTH_BEFORE_SETTLING * 2):
        growth.event(BOUND)
    assert settled == []
    gc.enable()
    growth.event(BOUND)
    assert settled == [1]
