"""Each record counts once, however it comes."""

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from relayd.control_plane.errors import InvalidRequestError
from relayd.control_plane.store import schema, usage_sums
from relayd.control_plane.store.usage_sums import add, forget
from relayd.control_plane.usage_models import UsageQuery, UsageSum
from relayd.core.usage import Counts, Ledger, Reason, UsageRecord

ONE = Counts(1, 10, 2, 20)
TEN = Counts(10, 100, 20, 200)


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.prepare(connection, ":memory:")
    yield connection
    connection.close()


def records(session_id: str = "a", span: str = "span") -> list[UsageRecord]:
    """From 100 to 130 s: 1 to the host until 110, 10 until 120."""
    ledger = Ledger("stream")
    ledger.start(span, session_id, 100.0)
    ledger.interim(span, ONE, 110.0)
    ledger.interim(span, TEN, 120.0)
    ledger.stop(span, TEN, 130.0, Reason.IDLE)
    return list(ledger.unsent.values())


def sums(database: sqlite3.Connection, **query: object) -> list[UsageSum]:
    return usage_sums.sums(database, UsageQuery()._replace(**query))  # type: ignore[arg-type]


def test_records_add_up(database: sqlite3.Connection) -> None:
    assert add(database, "relay", records()) == 4
    assert sums(database) == [UsageSum("a", "relay", 100.0, 130.0, True, TEN)]


def test_a_record_that_comes_again_changes_nothing(database: sqlite3.Connection) -> None:
    some = records()
    assert [add(database, "relay", some[:3]), add(database, "relay", some)] == [3, 1]
    assert sums(database)[0].counts == TEN


@pytest.mark.parametrize("seed", range(5))
def test_neither_order_nor_losses_matter(database: sqlite3.Connection, seed: int) -> None:
    some = records()
    chance = random.Random(seed)
    chance.shuffle(some)
    some = [record for record in some if record.total == TEN or chance.random() < 0.5]
    add(database, "relay", some)
    assert sums(database)[0].counts == sums(database, since=0.0)[0].counts == TEN


def test_a_journal_that_was_lost_counts_nothing_twice(database: sqlite3.Connection) -> None:
    """The next one begins with the same numbers, and goes on with the same span."""
    for _ in ("first", "second"):
        add(database, "relay", records())
    assert sums(database)[0].counts == TEN


def test_a_relay_that_was_renamed_counts_nothing_twice(database: sqlite3.Connection) -> None:
    """What it had not heard taken under its old name comes again under the new one."""
    add(database, "before", records()[:3])
    add(database, "after", records())
    assert sums(database) == [UsageSum("a", "before", 100.0, 130.0, True, TEN)]


def test_a_number_that_was_given_again_loses_nothing(database: sqlite3.Connection) -> None:
    """The journal's end was damaged, or two relays run from copies of one disk."""
    add(database, "relay", records())
    add(database, "relay", records("b", span="another"))
    add(database, "relay", [records()[2]._replace(sequence=4, total=TEN.plus(ONE))])
    assert [one.counts for one in sums(database)] == [TEN.plus(ONE), TEN]
    assert sums(database, since=0.0) == [one._replace(to_at=120.0) for one in sums(database)]


def test_spans_of_a_session_are_added_up(database: sqlite3.Connection) -> None:
    add(database, "relay", records())
    add(database, "relay", records(span="another")[:2])
    assert sums(database) == [UsageSum("a", "relay", 100.0, 130.0, False, TEN.plus(ONE))]


def test_sums_of_a_period(database: sqlite3.Connection) -> None:
    add(database, "relay", records())
    assert sums(database, until=120.0) == [UsageSum("a", "relay", 100.0, 110.0, True, ONE)]
    assert sums(database, since=120.0)[0].counts == TEN.minus(ONE)
    assert sums(database, since=131.0) == []


def test_sums_of_a_session_and_of_a_relay(database: sqlite3.Connection) -> None:
    for relay in ("one", "two"):
        for session_id in ("a", "b"):
            add(database, relay, records(session_id, span=f"{relay} {session_id}"))
    assert [(one.session_id, one.relay) for one in sums(database, session_id="a")] == [("a", "one"), ("a", "two")]
    assert [(one.session_id, one.relay) for one in sums(database, relay="two")] == [("a", "two"), ("b", "two")]
    pages = [sums(database, limit=1)]
    while pages[-1]:
        pages.append(sums(database, limit=1, after=pages[-1][0][:2]))
    assert [one for page in pages for one in page] == sums(database)


def test_what_is_old_is_forgotten(database: sqlite3.Connection) -> None:
    add(database, "relay", records())
    add(database, "relay", records("b", "goes on")[:2])
    assert not forget(database, 115.0)
    assert sums(database, since=0.0) == [UsageSum("a", "relay", 110.0, 120.0, True, TEN.minus(ONE))]
    assert not forget(database, 1000.0)
    assert sums(database, since=0.0) == []
    assert [one.session_id for one in sums(database)] == ["b"], "a span that goes on is needed for its next record"


def test_much_that_is_old_is_forgotten_bit_by_bit(
    database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_sums, "FORGOTTEN_AT_ONCE", 2)
    for number in range(5):
        add(database, "relay", records(span=f"span {number}"))
    assert [forget(database, 1000.0) for _ in range(6)] == [True] * 5 + [False]
    assert sums(database) == []


def test_a_question_that_takes_too_long_is_given_up(
    database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(database, "relay", records())
    monkeypatch.setattr(usage_sums, "LONGEST_SECONDS", -1.0)
    monkeypatch.setattr(usage_sums, "_STEPS_BETWEEN_LOOKS", 1)
    with pytest.raises(InvalidRequestError, match="takes too long"):
        sums(database)
    monkeypatch.undo()
    assert sums(database)[0].counts == TEN


def test_a_database_of_the_version_before(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sqlite3")
    connection = sqlite3.connect(path, isolation_level=None)
    schema.prepare(connection, path)
    connection.executescript("DROP TABLE usage; DROP TABLE usage_spans; PRAGMA user_version = 1")
    schema.prepare(connection, path)
    add(connection, "relay", records())
    assert sums(connection)[0].counts == TEN
    schema.prepare(connection, path)
    connection.close()


def test_counts_that_cannot_be_make_no_sum_fail(database: sqlite3.Connection) -> None:
    most = Counts(2**53, 2**53, 2**53, 2**53)
    ledger = Ledger("stream")
    for number in range(1100):
        ledger.start(f"span-{number}", "a", 100.0)
        ledger.interim(f"span-{number}", most, 110.0)
    add(database, "relay", list(ledger.unsent.values()))
    assert sums(database)[0].counts == sums(database, since=0.0)[0].counts == Counts(*(1100 * one for one in most))
