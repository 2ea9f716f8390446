"""Records made of counts and times."""

import pytest

from relayd.core import usage
from relayd.core.usage import Counts, Kind, Ledger, Reason, UsageRecord

ONE = Counts(1, 10, 2, 20)
TWO = Counts(3, 30, 2, 20)


@pytest.fixture
def ledger() -> Ledger:
    one = Ledger("stream")
    one.start("span", "game", 100.0)
    return one


def newest(ledger: Ledger) -> UsageRecord:
    return next(reversed(ledger.unsent.values()))


def test_start_interim_stop(ledger: Ledger) -> None:
    assert ledger.interim("span", ONE, 160.0)
    assert not ledger.interim("span", ONE, 220.0), "nothing was forwarded"
    ledger.stop("span", TWO, 230.0, Reason.IDLE)
    start, interim, stop = ledger.unsent.values()
    assert list(ledger.unsent) == [1, 2, 3]
    assert start == UsageRecord(1, "span", "game", Kind.START, None, 100.0, 100.0, 100.0, Counts(), Counts())
    assert (interim.from_at, interim.to_at, interim.delta, interim.total) == (100.0, 160.0, ONE, ONE)
    assert (stop.from_at, stop.to_at, stop.delta, stop.total) == (160.0, 230.0, Counts(2, 20, 0, 0), TWO)
    assert (stop.kind, stop.reason, stop.began_at) == (Kind.STOP, Reason.IDLE, 100.0)
    assert not ledger.spans


def test_a_clock_that_was_set_back(ledger: Ledger) -> None:
    ledger.interim("span", ONE, 50.0)
    assert (newest(ledger).from_at, newest(ledger).to_at) == (100.0, 100.0)


def test_only_what_is_on_the_disk_is_handed_out(ledger: Ledger) -> None:
    ledger.interim("span", ONE, 160.0)
    assert [record.sequence for record in ledger.batch(1, 10).records] == [1]
    assert [record.sequence for record in ledger.batch(2, 1).records] == [1]
    assert ledger.batch(0, 10).records == []


def test_what_was_taken_is_not_handed_out_again(ledger: Ledger) -> None:
    ledger.interim("span", ONE, 160.0)
    ledger.acknowledge(1)
    assert [record.sequence for record in ledger.batch(9, 10).records] == [2]
    ledger.acknowledge(2)
    ledger.acknowledge(1)
    assert not ledger.unsent
    assert (ledger.made, ledger.taken, ledger.acknowledged) == (2, 2, 2)


def test_a_number_is_never_given_twice() -> None:
    ledger = Ledger("stream", 3, 3)
    ledger.acknowledge(7)
    ledger.start("span", "game", 100.0)
    assert newest(ledger).sequence == 8


def test_records_of_a_span_are_merged_and_none_of_its_sum_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_MERGE_FROM", 4)
    ledger = Ledger("stream")
    for span in ("a", "b"):
        ledger.start(span, span, 100.0)
    ledger.interim("a", ONE, 160.0)
    ledger.interim("b", ONE, 160.0)
    assert list(ledger.unsent) == [1, 2, 3, 4], "too few to merge"
    ledger.interim("a", TWO, 220.0)
    assert list(ledger.unsent) == list(ledger.unwritten) == [1, 2, 4, 5]
    merged = newest(ledger)
    assert (merged.from_at, merged.to_at, merged.delta, merged.total) == (100.0, 220.0, TWO, TWO)
    ledger.stop("a", TWO, 230.0, Reason.IDLE)
    assert list(ledger.unsent) == [1, 2, 4, 6]
    assert (newest(ledger).from_at, newest(ledger).delta) == (100.0, TWO)
    assert (ledger.merged, ledger.lost) == (2, 0)


def test_what_somebody_has_in_hand_is_not_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_MERGE_FROM", 1)
    ledger = Ledger("stream")
    ledger.start("a", "a", 100.0)
    ledger.interim("a", ONE, 160.0)
    assert ledger.batch(9, 10).records == [newest(ledger)]
    ledger.interim("a", TWO, 220.0)
    assert list(ledger.unsent) == [2, 3]
    assert newest(ledger).delta == TWO.minus(ONE)


def test_a_merged_record_takes_the_place_of_others_in_a_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_MERGE_FROM", 2)
    ledger, again = Ledger("stream"), Ledger("stream")
    ledger.start("a", "a", 100.0)
    ledger.interim("a", ONE, 160.0)
    written = list(ledger.unsent.values())
    ledger.interim("a", TWO, 220.0)
    for record in (*written, newest(ledger)):
        again.replay(record)
    assert again.unsent == ledger.unsent


def test_beyond_the_bound_the_oldest_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_MERGE_FROM", 2)
    monkeypatch.setattr(usage, "MOST_UNSENT", 3)
    ledger = Ledger("stream")
    for span in "abcde":
        ledger.start(span, span, 100.0)
        ledger.stop(span, ONE, 160.0, Reason.REMOVED)
    assert [record.span for record in ledger.unsent.values()] == ["c", "d", "e"]
    assert list(ledger.unwritten) == list(ledger.unsent)
    assert ledger.lost == 2


def test_replaying_gives_the_same_ledger(ledger: Ledger) -> None:
    ledger.interim("span", ONE, 160.0)
    ledger.start("other", "game", 170.0)
    ledger.stop("other", ONE, 180.0, Reason.REMOVED)
    again = Ledger("stream")
    for record in ledger.unsent.values():
        again.replay(UsageRecord.from_fields(record.fields()))
    assert (again.unsent, again.spans, again.sequence) == (ledger.unsent, ledger.spans, ledger.sequence)


def test_a_new_one_has_made_lost_and_handed_over_nothing() -> None:
    ledger = Ledger("stream")
    assert (ledger.made, ledger.taken, ledger.merged, ledger.lost, ledger.refused) == (0, 0, 0, 0, 0)
    assert (ledger.sequence, ledger.acknowledged, ledger.kept) == (0, 0, True)
