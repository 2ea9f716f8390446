"""Each record counts once, however it comes."""

import asyncio
import random

import pytest

from relayd.control_plane.store import usage_sums
from relayd.control_plane.store.contract import Store
from relayd.control_plane.usage_models import UsageQuery, UsageSum
from relayd.core.usage import Counts, Ledger, Reason, UsageRecord

ONE = Counts(1, 10, 2, 20)
TEN = Counts(10, 100, 20, 200)


class Usage:
    """A store's usage, asked without waiting in each test."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, relay: str, records: list[UsageRecord]) -> int:
        return asyncio.run(self._store.add_usage(relay, records))

    def sums(self, **query: object) -> list[UsageSum]:
        return asyncio.run(self._store.usage(UsageQuery()._replace(**query)))  # type: ignore[arg-type]

    def forget(self, before: float) -> bool:
        return asyncio.run(self._store.forget_usage(before))


@pytest.fixture
def usage(store: Store) -> Usage:
    return Usage(store)


def records(session_id: str = "a", span: str = "span") -> list[UsageRecord]:
    """From 100 to 130 s: 1 to the host until 110, 10 until 120."""
    ledger = Ledger("stream")
    ledger.start(span, session_id, 100.0)
    ledger.interim(span, ONE, 110.0)
    ledger.interim(span, TEN, 120.0)
    ledger.stop(span, TEN, 130.0, Reason.IDLE)
    return list(ledger.unsent.values())


def test_records_add_up(usage: Usage) -> None:
    assert usage.add("relay", records()) == 4
    assert usage.sums() == [UsageSum("a", "relay", 100.0, 130.0, True, TEN)]


def test_a_record_that_comes_again_changes_nothing(usage: Usage) -> None:
    some = records()
    assert [usage.add("relay", some[:3]), usage.add("relay", some)] == [3, 1]
    assert usage.sums()[0].counts == TEN


@pytest.mark.parametrize("seed", range(5))
def test_neither_order_nor_losses_matter(usage: Usage, seed: int) -> None:
    some = records()
    chance = random.Random(seed)
    chance.shuffle(some)
    some = [record for record in some if record.total == TEN or chance.random() < 0.5]
    usage.add("relay", some)
    assert usage.sums()[0].counts == usage.sums(since=0.0)[0].counts == TEN


def test_a_journal_that_was_lost_counts_nothing_twice(usage: Usage) -> None:
    """The next one begins with the same numbers, and goes on with the same span."""
    for _ in ("first", "second"):
        usage.add("relay", records())
    assert usage.sums()[0].counts == TEN


def test_a_relay_that_was_renamed_counts_nothing_twice(usage: Usage) -> None:
    """What it had not heard taken under its old name comes again under the new one."""
    usage.add("before", records()[:3])
    usage.add("after", records())
    assert usage.sums() == [UsageSum("a", "before", 100.0, 130.0, True, TEN)]


def test_a_number_that_was_given_again_loses_nothing(usage: Usage) -> None:
    """The journal's end was damaged, or two relays run from copies of one disk."""
    usage.add("relay", records())
    usage.add("relay", records("b", span="another"))
    usage.add("relay", [records()[2]._replace(sequence=4, total=TEN.plus(ONE))])
    assert [one.counts for one in usage.sums()] == [TEN.plus(ONE), TEN]
    assert usage.sums(since=0.0) == [one._replace(to_at=120.0) for one in usage.sums()]


def test_spans_of_a_session_are_added_up(usage: Usage) -> None:
    usage.add("relay", records())
    usage.add("relay", records(span="another")[:2])
    assert usage.sums() == [UsageSum("a", "relay", 100.0, 130.0, False, TEN.plus(ONE))]


def test_sums_of_a_period(usage: Usage) -> None:
    usage.add("relay", records())
    assert usage.sums(until=120.0) == [UsageSum("a", "relay", 100.0, 110.0, True, ONE)]
    assert usage.sums(since=120.0)[0].counts == TEN.minus(ONE)
    assert usage.sums(since=131.0) == []


def test_sums_of_a_session_and_of_a_relay(usage: Usage) -> None:
    for relay in ("one", "two"):
        for session_id in ("a", "b"):
            usage.add(relay, records(session_id, span=f"{relay} {session_id}"))
    assert [(one.session_id, one.relay) for one in usage.sums(session_id="a")] == [("a", "one"), ("a", "two")]
    assert [(one.session_id, one.relay) for one in usage.sums(relay="two")] == [("a", "two"), ("b", "two")]
    pages = [usage.sums(limit=1)]
    while pages[-1]:
        pages.append(usage.sums(limit=1, after=pages[-1][0][:2]))
    assert [one for page in pages for one in page] == usage.sums()


def test_what_is_old_is_forgotten(usage: Usage) -> None:
    usage.add("relay", records())
    usage.add("relay", records("b", "goes on")[:2])
    assert not usage.forget(115.0)
    assert usage.sums(since=0.0) == [UsageSum("a", "relay", 110.0, 120.0, True, TEN.minus(ONE))]
    assert not usage.forget(1000.0)
    assert usage.sums(since=0.0) == []
    assert [one.session_id for one in usage.sums()] == ["b"], "a span that goes on is needed for its next record"


def test_much_that_is_old_is_forgotten_bit_by_bit(usage: Usage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_sums, "FORGOTTEN_AT_ONCE", 2)
    for number in range(5):
        usage.add("relay", records(span=f"span {number}"))
    assert [usage.forget(1000.0) for _ in range(6)] == [True] * 5 + [False]
    assert usage.sums() == []


def test_counts_that_cannot_be_make_no_sum_fail(usage: Usage) -> None:
    most = Counts(2**53, 2**53, 2**53, 2**53)
    ledger = Ledger("stream")
    for number in range(1100):
        ledger.start(f"span-{number}", "a", 100.0)
        ledger.interim(f"span-{number}", most, 110.0)
    usage.add("relay", list(ledger.unsent.values()))
    assert usage.sums()[0].counts == usage.sums(since=0.0)[0].counts == Counts(*(1100 * one for one in most))
