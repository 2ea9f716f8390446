"""What is SQLite's: opening, taking over, threads, plans."""

import asyncio
import itertools
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, event, inspect

from relayd.control_plane import keys
from relayd.control_plane.errors import InvalidRequestError, NodeTakenError, StoreUnavailableError, StoreUnusableError
from relayd.control_plane.keys import Scope
from relayd.control_plane.models import NewUser
from relayd.control_plane.node_models import Heartbeat
from relayd.control_plane.store import (
    migration,
    migrations,
    node_queries,
    schema,
    session_queries,
    sqlite,
    start_queries,
)
from relayd.control_plane.store.contract import NewSession
from relayd.control_plane.store.sqlite import SqliteStore, open_database, prepared_connection
from relayd.control_plane.usage_models import UsageQuery, UsageSum
from relayd.core.usage import Counts

BEAT = Heartbeat(ip="203.0.113.7", host="r", server_port=1, client_port=2, capacity=10, load=0)
SESSION = NewSession([NewUser(ip="1.1.1.1"), NewUser(ip="1.1.1.1")], "n", None, None, 0.0)
OLD = Path(__file__).parents[2] / "fixtures" / "control-plane-0.1.0.sql"


def of_version(path: Path, version: int) -> None:
    """A database as relayd 0.1.0 left it, or as one before it did."""
    connection = sqlite3.connect(path)
    connection.executescript(OLD.read_text(encoding="utf-8"))
    if version < 2:
        connection.executescript("DROP TABLE usage; DROP TABLE usage_spans; PRAGMA user_version = 1")
    connection.close()


def test_a_database_of_0_1_0_is_taken_over_whole(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite3"
    of_version(path, 2)

    async def work() -> None:
        store = SqliteStore(str(path))
        assert await store.epoch() == "ebec80453ee8a954", "relays go on from the revision that they have"
        assert (await store.webhook_secret()).startswith("5ce02ca1")
        page = await store.page(1, 10)
        assert page.total == 3
        ready, waiting, failed = page.sessions
        assert (ready.session_id, ready.authorization_token, ready.status) == ("bf24d8eaa783-S", 2437174803, "Ready")
        assert [(user.ip_address, user.authorization_token) for user in ready.session_users] == [
            ("198.51.100.1", 867239288),
            ("2001:db8::1", 678325417),
            ("198.51.100.9", 1705418586),
        ]
        assert ready.relay is not None
        assert ready.relay.ports.client.link == "relay-1.example.net:32001"
        assert (waiting.status, failed.status, bool(failed.error)) == ("Initializing", "Error", True)
        first, _ = await store.nodes()
        assert first.heartbeat.attributes == {"city": "Berlin", "continent": "Europe"}
        assert (first.node_id, first.revision, first.heard_at, first.heartbeat.draining) == (
            "relay-1",
            4,
            1700000004.0,
            False,
        )
        delta = await store.node_sessions("relay-1", since=2, epoch=await store.epoch(), after=None, limit=10)
        assert delta is not None
        assert (delta.full, delta.removed, len(delta.sessions)) == (False, ["6d12f2a28b2d-S"], 1)
        (key,) = await store.keys()
        assert key.scopes == {Scope.SESSIONS_READ, Scope.NODES_WRITE}
        assert keys.same("rk_0123456789ab_" + "k" * 43, key.digest)
        (call,) = await store.upcoming(10)
        assert (call.url, call.attempts) == ("http://backend.example/ready", 0)
        assert await store.usage(UsageQuery()) == [
            UsageSum("bf24d8eaa783-S", "relay-1", 1700000004.0, 1700000100.0, True, Counts(10, 100, 20, 200))
        ]
        assert (await store.create(SESSION._replace(node_id="relay-2"))).revision == 7
        await store.close()

    asyncio.run(work())


@pytest.mark.parametrize("version", [0, 1, 2])
def test_every_way_leads_to_the_same_tables(tmp_path: Path, version: int) -> None:
    path = tmp_path / "x.sqlite3"
    if version:
        of_version(path, version)
    new = prepared_connection(":memory:")
    with new.begin():
        assert compare_metadata(MigrationContext.configure(new), schema.metadata) == []
    for _ in range(2):
        connection = prepared_connection(str(path))
        assert _shape(connection) == _shape(new)
        connection.close()
    new.close()


def test_head_is_the_newest_step() -> None:
    assert ScriptDirectory(migrations.__path__[0]).get_heads() == [migration.HEAD]


def test_a_database_that_lacks_nothing_is_opened_without_alembic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "x.sqlite3")
    prepared_connection(path).close()
    monkeypatch.setitem(sys.modules, "alembic", None)  # whoever imports it fails
    prepared_connection(path).close()
    with pytest.raises(ImportError):
        prepared_connection(":memory:")


def _shape(connection: Connection) -> dict[str, Any]:
    """Tables with their columns, keys and indexes, but for types, which SQLite keeps as they were spelled."""
    with connection.begin():
        inspector = inspect(connection)
        primaries = {
            table: inspector.get_pk_constraint(table)["constrained_columns"] for table in inspector.get_table_names()
        }
        return {
            table: (
                connection.exec_driver_sql(f"SELECT wr FROM pragma_table_list('{table}')").scalar_one(),
                {one["name"]: one["nullable"] and one["name"] not in primary for one in inspector.get_columns(table)},
                primary,
                # Not the inspector's, which misses what stands behind the column itself.
                connection.exec_driver_sql(f"PRAGMA foreign_key_list('{table}')").all(),
                {
                    one["name"]: (one["column_names"], one["unique"], str(one["dialect_options"].get("sqlite_where")))
                    for one in inspector.get_indexes(table)
                },
                sorted(str(one["column_names"]) for one in inspector.get_unique_constraints(table)),
            )
            for table, primary in primaries.items()
        }


@pytest.mark.parametrize("newer", ["PRAGMA user_version = 4", "UPDATE alembic_version SET version_num = '9999'"])
def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path, newer: str) -> None:
    path = tmp_path / "x.sqlite3"
    prepared_connection(str(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute(newer)
    before = list(connection.iterdump())
    with pytest.raises(StoreUnusableError, match=r"x\.sqlite3: was written by a newer relayd \(schema .*\); install"):
        SqliteStore(str(path))
    assert list(connection.iterdump()) == before
    connection.close()


def test_a_program_from_before_refuses_it(tmp_path: Path) -> None:
    """It knows user_version 2, and takes nothing above."""
    path = tmp_path / "x.sqlite3"
    of_version(path, 2)
    prepared_connection(str(path)).close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    connection.close()


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    of_version(path, 2)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE store (somebody TEXT)")  # what the last step makes
    before = list(connection.iterdump())
    with pytest.raises(StoreUnusableError, match=r"cannot be used as \[api\] database: .*store"):
        SqliteStore(str(path))
    assert list(connection.iterdump()) == before
    connection.close()


def test_many_open_a_new_database_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sqlite3")
    at_once = threading.Barrier(4)
    opened: list[Connection | BaseException] = []

    def open_it() -> None:
        at_once.wait()
        try:
            opened.append(prepared_connection(path))
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            opened.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(one) for one in opened] == [Connection] * 4
    for connection in opened:
        assert isinstance(connection, Connection)
        with connection.begin():
            assert start_queries.epoch(connection)
        connection.close()


def test_nobody_waits_for_a_question_that_takes_long(tmp_path: Path) -> None:
    asked, answer = threading.Event(), threading.Event()

    def takes_long(_: Connection) -> bool:
        asked.set()
        return answer.wait(10.0)

    async def work() -> None:
        database = open_database(str(tmp_path / "x.sqlite3"))
        slow = asyncio.create_task(database.read_slowly(takes_long))
        await asyncio.to_thread(asked.wait, 10.0)
        assert await database.read(start_queries.epoch)
        await database.write(lambda connection: node_queries.forget(connection, 0.0))
        assert not slow.done()
        answer.set()
        assert await slow
        await database.close()

    asyncio.run(work())


@pytest.mark.parametrize("path", [":memory:", "x.sqlite3"])
def test_a_question_that_takes_too_long_is_given_up(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LONGEST_SLOW_READ", -1.0)
    monkeypatch.setattr(sqlite, "_STEPS_BETWEEN_LOOKS", 1)

    async def work() -> None:
        store = SqliteStore(path if path == ":memory:" else str(tmp_path / path))
        with pytest.raises(InvalidRequestError, match="takes too long"):
            await store.usage(UsageQuery())
        monkeypatch.undo()
        assert await store.usage(UsageQuery()) == []
        await store.close()

    asyncio.run(work())


def test_another_relay_of_the_same_name_is_refused_after_a_restart_too(tmp_path: Path) -> None:
    async def work() -> None:
        for now, ip, refused in ((100.0, "203.0.113.7", False), (110.0, "203.0.113.8", True), (110.1, "::1", False)):
            store = SqliteStore(str(tmp_path / "x.sqlite3"))
            heard = store.heartbeat("n", BEAT.model_copy(update={"ip": ip}), now)
            if refused:
                with pytest.raises(NodeTakenError):
                    await heard
            else:
                await heard
            await store.close()

    asyncio.run(work())


def test_a_damaged_file_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"

    async def work() -> None:
        store = SqliteStore(str(path))
        await store.heartbeat("n", BEAT, 0)
        connection = sqlite3.connect(path)
        connection.execute("DROP TABLE users")
        connection.commit()
        connection.close()
        with pytest.raises(StoreUnavailableError, match=r"\(no such table: .*users\)"):
            await store.create(SESSION)
        await store.close()

    asyncio.run(work())


class Asked:
    """Statements with their parameters, as they reach the database."""

    def __init__(self, engine: Engine) -> None:
        self.statements: list[tuple[str, Any]] = []
        event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, _: Connection, __: object, statement: str, parameters: Any, ___: object, many: bool) -> None:
        self.statements.append((statement, parameters[0] if many else parameters))


@pytest.fixture
def connection() -> Iterator[Connection]:
    opened = prepared_connection(":memory:")
    with opened.begin():
        yield opened
    opened.close()


def test_thousands_of_ended_sessions_are_few_statements(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two of 5,000 tokens drawn at random are the same in one run of 170: the store would draw again.
    tokens = itertools.count(1)
    monkeypatch.setattr(session_queries, "_random_token", lambda _: next(tokens))
    node_queries.heartbeat(connection, "n", BEAT, 0.0)
    made = [session_queries.create(connection, SESSION, token_bits=31).session.session_id for _ in range(2500)]
    asked = Asked(connection.engine)
    heard = node_queries.heartbeat(connection, "n", BEAT.model_copy(update={"ended": made}), 1.0)
    assert len(heard.ended) == 2500
    assert len(asked.statements) < 15
    assert session_queries.page(connection, 1, 10).total == 0


def test_nothing_that_is_asked_often_goes_through_all_sessions(connection: Connection) -> None:
    asked = Asked(connection.engine)
    node_queries.heartbeat(connection, "n", BEAT, 0)
    made = session_queries.create(connection, SESSION, token_bits=31).session.session_id
    session_queries.authorize(connection, made, "2.2.2.2", token_bits=31)
    session_queries.get(connection, made)
    epoch = start_queries.epoch(connection)
    for known in (None, epoch):
        node_queries.node_sessions(connection, "n", since=0, known_epoch=known, after=None, limit=10)
    applied = BEAT.model_copy(update={"epoch": epoch, "revision": 1, "ended": ["000000000000-S"]})
    node_queries.heartbeat(connection, "n", applied, 0)
    node_queries.fail_untaken(connection, 100)
    session_queries.delete_session(connection, made, 0)
    seen = [one for one in asked.statements if not one[0].startswith("INSERT")]
    assert len(seen) > 15
    for statement, parameters in seen:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        plan = {row.detail for row in rows}
        if (
            "nodes.heard_at <" in statement
        ):  # goes through the relays, few as they are, and never through their sessions
            plan -= {"SCAN nodes"}
        scanned = {detail for detail in plan if detail.startswith("SCAN")}
        assert scanned <= {"SCAN store", "SCAN changed"}, statement
