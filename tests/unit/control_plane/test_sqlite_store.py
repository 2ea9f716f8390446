"""What the store promises beyond what the API shows."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from relayd.control_plane.errors import ConflictError, NodeTakenError, StoreUnavailableError
from relayd.control_plane.models import Heartbeat, NewUser
from relayd.control_plane.store import nodes as sqlite_nodes
from relayd.control_plane.store import sessions as sqlite_sessions
from relayd.control_plane.store import usage_sums as sqlite_usage
from relayd.control_plane.store.contract import NewSession
from relayd.control_plane.store.database import Database
from relayd.control_plane.store.sqlite import SqliteStore

BEAT = Heartbeat(ip="203.0.113.7", host="r", server_port=1, client_port=2, capacity=10, load=0)
USERS = [NewUser(ip="1.1.1.1"), NewUser(ip="1.1.1.1")]


def run(path: Path | str, work: Callable[[SqliteStore], Awaitable[None]]) -> None:
    async def with_store() -> None:
        store = SqliteStore(str(path))
        try:
            await work(store)
        finally:
            await store.close()

    asyncio.run(with_store())


def session(node: str | None = "n", at: float = 0.0) -> NewSession:
    return NewSession(USERS, node, None if node else "why", None, at)


def test_nobody_waits_for_a_question_that_takes_long(tmp_path: Path) -> None:
    asked, answer = threading.Event(), threading.Event()

    def takes_long(_: sqlite3.Connection) -> bool:
        asked.set()
        return answer.wait(10.0)

    async def work() -> None:
        database = Database(str(tmp_path / "x.sqlite3"))
        studying = asyncio.create_task(database.study(takes_long))
        await asyncio.to_thread(asked.wait, 10.0)
        assert await database.read(sqlite_nodes.epoch)
        await database.write(lambda connection: sqlite_usage.add(connection, "relay", []))
        assert not studying.done()
        answer.set()
        assert await studying
        await database.close()

    asyncio.run(work())


@pytest.mark.parametrize("path", [":memory:", "file"])
def test_a_failing_write_takes_no_other_with_it(path: str, tmp_path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        await store.heartbeat("n", BEAT, 0)
        made = (await store.create(session())).session.session_id
        results = await asyncio.gather(
            *(store.authorize(made, f"10.0.0.{number % 3}") for number in range(9)), return_exceptions=True
        )
        assert sum(isinstance(result, ConflictError) for result in results) == 6
        page = await store.node_sessions("n", 0, None, None, 10)
        assert page is not None
        assert len(page.sessions[0].session_users) == 5

    run(path if path == ":memory:" else tmp_path / "x.sqlite3", work)


def test_two_users_behind_one_address_get_a_token_each() -> None:
    async def work(store: SqliteStore) -> None:
        await store.heartbeat("n", BEAT, 0)
        await store.create(session())
        page = await store.node_sessions("n", 0, None, None, 10)
        assert page is not None
        one, other = page.sessions[0].session_users
        assert one.authorization_token != other.authorization_token

    run(":memory:", work)


def test_a_token_that_is_taken_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([7, 7, 8, 8, 9, 1, 7, 7, 1, 2, 9, 10, 11])
    monkeypatch.setattr(sqlite_sessions, "_random_token", lambda: next(draws))

    async def work(store: SqliteStore) -> None:
        await store.heartbeat("n", BEAT, 0)
        for _ in range(2):
            await store.create(session())
        page = await store.node_sessions("n", 0, None, None, 10)
        assert page is not None
        assert len({made.authorization_token for made in page.sessions}) == 2
        assert len({user.authorization_token for made in page.sessions for user in made.session_users}) == 4

    run(":memory:", work)


def test_a_relay_that_missed_more_removals_than_are_kept_reads_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_nodes, "REMOVALS_KEPT", 2)

    async def work(store: SqliteStore) -> None:
        await store.heartbeat("n", BEAT, 0)
        epoch = await store.epoch()
        made = [(await store.create(session())).session.session_id for _ in range(4)]
        removed = [(await store.delete(one, 10.0)).revision for one in made]
        await store.tidy(11.0)

        async def full(since: int) -> bool:
            page = await store.node_sessions("n", since, epoch, None, 10)
            assert page is not None
            return page.full

        assert [await full(revision) for revision in removed] == [True, False, False, False]
        await store.tidy(10.0 + sqlite_nodes.REMOVALS_KEPT_FOR + 1)
        # By now the relay is forgotten too, since it has no sessions; it comes back at the newest revision.
        heard = await store.heartbeat("n", BEAT, 10.0**6)
        assert heard.revision == removed[-1]
        assert [await full(revision) for revision in removed] == [True, True, True, False]

    run(":memory:", work)


def test_another_relay_takes_a_name_over_after_10_s_of_silence() -> None:
    moved = BEAT.model_copy(update={"client_port": 3})

    async def work(store: SqliteStore) -> None:
        await store.heartbeat("n", BEAT, 100.0)
        for now in (100.0, 110.0, 95.0):
            with pytest.raises(NodeTakenError):
                await store.heartbeat("n", moved, now)
        await store.heartbeat("other", moved, 100.0)
        await store.heartbeat("n", moved, 110.1)
        with pytest.raises(NodeTakenError):
            await store.heartbeat("n", BEAT, 111.0)
        await store.heartbeat("n", BEAT, 50.0)  # the clock was put back by more than that
        assert {node.heartbeat.client_port for node in await store.nodes() if node.node_id == "n"} == {2}

    run(":memory:", work)


def test_what_a_relay_ended_goes_at_once_and_is_told_one_by_one() -> None:
    async def work(store: SqliteStore) -> None:
        for node in ("n", "other"):
            await store.heartbeat(node, BEAT, 0)
        made = [(await store.create(session())).session.session_id for _ in range(4)]
        foreign = (await store.create(session("other"))).session.session_id
        newest = (await store.heartbeat("n", BEAT, 1)).revision
        ended = [made[2], "nope", made[0], made[2], f"{made[1]}\x00", "", foreign]
        heard = await store.heartbeat("n", BEAT.model_copy(update={"ended": ended}), 2)
        assert sorted(heard.ended) == sorted([made[0], made[2]])
        assert heard.revision == newest + 3  # the other relay's session was the newest change until then
        page = await store.node_sessions("n", newest, await store.epoch(), None, 10)
        assert page is not None
        assert (page.full, page.sessions, sorted(page.removed)) == (False, [], sorted([made[0], made[2]]))
        left = await store.page(1, 10)
        assert ([one.session_id for one in left.sessions], left.total) == ([made[1], made[3], foreign], 3)
        again = await store.heartbeat("n", BEAT.model_copy(update={"ended": ended}), 3)
        assert (again.ended, again.revision) == ((), heard.revision)

    run(":memory:", work)


def test_thousands_of_ended_sessions_do_not_hold_up_the_writer(tmp_path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        await store.heartbeat("n", BEAT, 0)
        made = await asyncio.gather(*(store.create(session()) for _ in range(20_000)))
        beat = BEAT.model_copy(update={"ended": [one.session.session_id for one in made]})
        began = time.monotonic()
        heard = await store.heartbeat("n", beat, 1)
        took = time.monotonic() - began
        assert len(heard.ended) == 20_000
        assert took < 30  # half a second; with a look at all of them for each, it would be minutes
        assert (await store.page(1, 10)).total == 0

    run(tmp_path / "x.sqlite3", work)


def test_what_a_dead_relay_never_took_fails_and_is_gone_for_it() -> None:
    async def work(store: SqliteStore) -> None:
        epoch = await store.epoch()
        for node in ("dead", "alive"):
            await store.heartbeat(node, BEAT, 0)
        ready = await store.create(session("dead", at=1))
        applied = BEAT.model_copy(update={"epoch": epoch, "revision": ready.revision})
        await store.heartbeat("dead", applied, 2)
        lost = [(await store.create(session("dead", at=3))).session.session_id for _ in range(2)]
        late = (await store.create(session("dead", at=30))).session.session_id
        waiting = (await store.create(session("alive", at=3))).session
        known = late_revision = (await store.node_sessions("dead", 0, epoch, None, 10)).revision  # type: ignore[union-attr]
        await store.heartbeat("alive", BEAT, 39)
        assert await store.fail_untaken(33) == [], "not yet"
        (failed,) = await store.fail_untaken(40)
        assert (failed.node_id, sorted(failed.session_ids)) == ("dead", sorted(lost))
        assert failed.revision > late_revision
        assert await store.fail_untaken(40) == []
        for session_id in lost:
            shown = await store.get(session_id)
            assert shown is not None
            assert (shown.status, shown.session_users, shown.relay) == ("Error", [], None)
            assert "create the session again" in (shown.error or "")
            with pytest.raises(ConflictError):
                await store.authorize(session_id, "9.9.9.9")
        delta = await store.node_sessions("dead", known, epoch, None, 10)
        assert delta is not None
        assert (delta.full, sorted(delta.removed), delta.revision) == (False, sorted(lost), failed.revision)
        whole = await store.node_sessions("dead", 0, None, None, 10)
        assert whole is not None
        assert {one.session_id for one in whole.sessions} == {ready.session.session_id, late}
        # It comes back and applies everything: what failed stays failed, what still waited is ready.
        heard = await store.heartbeat("dead", applied.model_copy(update={"revision": failed.revision}), 41)
        assert heard.ready == (late,)
        assert (await store.get(waiting.session_id)).status == "Initializing"  # type: ignore[union-attr]
        await store.delete(lost[0], 50)
        assert (await store.page(1, 10)).total == 4
        await store.tidy(3700)
        assert await store.get(lost[1]) is None

    run(":memory:", work)


def test_failed_sessions_are_forgotten_after_a_while() -> None:
    async def work(store: SqliteStore) -> None:
        await store.create(session(None, at=0.0))
        kept = (await store.create(session(None, at=2000.0))).session.session_id
        await store.tidy(4000.0)
        page = await store.page(1, 10)
        assert ([one.session_id for one in page.sessions], page.total) == ([kept], 1)

    run(":memory:", work)


def test_a_damaged_file_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"

    async def work(store: SqliteStore) -> None:
        await store.heartbeat("n", BEAT, 0)
        connection = sqlite3.connect(path)
        connection.execute("DROP TABLE users")
        connection.commit()
        connection.close()
        with pytest.raises(StoreUnavailableError):
            await store.create(session())

    run(path, work)


def test_nothing_that_is_asked_often_goes_through_all_sessions(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"

    async def work(store: SqliteStore) -> None:
        await store.heartbeat("n", BEAT, 0)

    run(path, work)
    statements: list[str] = []
    connection = sqlite3.connect(path, isolation_level=None)
    connection.set_trace_callback(statements.append)
    made = sqlite_sessions.create(connection, session()).session.session_id
    sqlite_sessions.authorize(connection, made, "2.2.2.2")
    sqlite_sessions.get(connection, made)
    epoch = sqlite_nodes.epoch(connection)
    for known in (None, epoch):
        sqlite_nodes.node_sessions(connection, "n", 0, known, None, 10)
    sqlite_nodes.heartbeat(
        connection, "n", BEAT.model_copy(update={"epoch": epoch, "revision": 1, "ended": ["000000000000-S"]}), 0
    )
    sqlite_nodes.fail_untaken(connection, 100)
    sqlite_sessions.delete(connection, made, 0)
    connection.set_trace_callback(None)
    asked = [one for one in statements if one.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE"))]
    assert len(asked) > 10
    for statement in asked:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}"))
        if "CROSS JOIN" in statement:  # goes through the relays, few as they are, and never through their sessions
            plan = plan.replace("SCAN n", "")
        assert not any(f"SCAN {table}" in plan for table in ("s", "sessions", "users", "removed", "n", "nodes")), plan
    connection.close()
