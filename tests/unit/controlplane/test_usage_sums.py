"""Each record counts once, however it comes."""

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from relayd.controlplane import schema, sqlite_usage
from relayd.controlplane.sqlite_usage import add, forget
from relayd.controlplane.usage import UsageQuery, UsageSum
from relayd.core.usage import Counts, Ledger, Reason, UsageRecord

ONE = Counts(1, 10, 2, 20)
TEN = Counts(10, 100, 20, 200)


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.prepare(connection, ":memory:")
    yield connection
    connection.close()


def records(session_id: str = "a", span: str = "span", stream: str = "stream") -> list[UsageRecord]:
    """From 100 to 130 s: 1 to the host until 110, 10 until 120."""
    ledger = Ledger(stream)
    ledger.start(span, session_id, 100.0)
    ledger.interim(span, ONE, 110.0)
    ledger.interim(span, TEN, 120.0)
    ledger.stop(span, TEN, 130.0, Reason.IDLE)
    return list(ledger.unsent)


def sums(database: sqlite3.Connection, **query: object) -> list[UsageSum]:
    return sqlite_usage.sums(database, UsageQuery()._replace(**query))  # type: ignore[arg-type]


def test_records_add_up(database: sqlite3.Connection) -> None:
    assert add(database, "relay", "stream", records()) == 4
    assert sums(database) == [UsageSum("a", "relay", 100.0, 130.0, True, TEN)]


def test_a_record_that_comes_again_changes_nothing(database: sqlite3.Connection) -> None:
    some = records()
    assert [add(database, "relay", "stream", some[:3]), add(database, "relay", "stream", some)] == [3, 1]
    assert sums(database)[0].counts == TEN


@pytest.mark.parametrize("seed", range(5))
def test_neither_order_nor_losses_matter(database: sqlite3.Connection, seed: int) -> None:
    some = records()
    chance = random.Random(seed)
    chance.shuffle(some)
    some = [record for record in some if record.total == TEN or chance.random() < 0.5]
    add(database, "relay", "stream", some)
    assert sums(database)[0].counts == sums(database, since=0.0)[0].counts == TEN


def test_a_journal_that_was_lost_counts_nothing_twice(database: sqlite3.Connection) -> None:
    """The next one begins with the same numbers, and goes on with the same span."""
    for stream in ("first", "second"):
        add(database, "relay", stream, records())
    assert sums(database)[0].counts == TEN


def test_spans_of_a_session_are_added_up(database: sqlite3.Connection) -> None:
    add(database, "relay", "first", records())
    add(database, "relay", "second", records(span="another")[:2])
    assert sums(database) == [UsageSum("a", "relay", 100.0, 130.0, False, TEN.plus(ONE))]


def test_sums_of_a_period(database: sqlite3.Connection) -> None:
    add(database, "relay", "stream", records())
    assert sums(database, until=120.0) == [UsageSum("a", "relay", 100.0, 110.0, True, ONE)]
    assert sums(database, since=120.0)[0].counts == TEN.minus(ONE)
    assert sums(database, since=131.0) == []


def test_sums_of_a_session_and_of_a_relay(database: sqlite3.Connection) -> None:
    for relay in ("one", "two"):
        for session_id in ("a", "b"):
            add(database, relay, f"{relay} {session_id}", records(session_id, span=session_id))
    assert [(one.session_id, one.relay) for one in sums(database, session_id="a")] == [("a", "one"), ("a", "two")]
    assert [(one.session_id, one.relay) for one in sums(database, relay="two")] == [("a", "two"), ("b", "two")]
    pages = [sums(database, limit=1)]
    while pages[-1]:
        pages.append(sums(database, limit=1, after=pages[-1][0][:2]))
    assert [one for page in pages for one in page] == sums(database)


def test_what_is_old_is_forgotten(database: sqlite3.Connection) -> None:
    add(database, "relay", "old", records())
    add(database, "relay", "new", records("b", "goes on")[:2])
    forget(database, 125.0)
    assert [one.session_id for one in sums(database, since=0.0)] == ["a"]
    forget(database, 1000.0)
    assert sums(database, since=0.0) == []
    assert [one.session_id for one in sums(database)] == ["b"], "a span that goes on is needed for its next record"


def test_a_database_of_the_version_before(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sqlite3")
    connection = sqlite3.connect(path, isolation_level=None)
    schema.prepare(connection, path)
    connection.executescript("DROP TABLE usage; DROP TABLE usage_spans; PRAGMA user_version = 1")
    schema.prepare(connection, path)
    add(connection, "relay", "stream", records())
    assert sums(connection)[0].counts == TEN
    schema.prepare(connection, path)
    connection.close()


def test_counts_that_cannot_be_make_no_sum_fail(database: sqlite3.Connection) -> None:
    most = Counts(2**53, 2**53, 2**53, 2**53)
    ledger = Ledger("stream")
    for number in range(1100):
        ledger.start(f"span-{number}", "a", 100.0)
        ledger.interim(f"span-{number}", most, 110.0)
    add(database, "relay", "stream", list(ledger.unsent))
    assert sums(database)[0].counts == sums(database, since=0.0)[0].counts == Counts(*(1100 * one for one in most))
