"""What every store promises beyond what the API shows."""

import asyncio

import pytest
from sqlalchemy.exc import IntegrityError

from relayd.control_plane.errors import ConflictError, NodeTakenError
from relayd.control_plane.keys import Scope, StoredKey
from relayd.control_plane.models import NewUser
from relayd.control_plane.node_models import Heartbeat, NodeSessions
from relayd.control_plane.store import node_queries, session_queries
from relayd.control_plane.store.contract import SILENT_AFTER, NewSession, Store

BEAT = Heartbeat(ip="203.0.113.7", host="r", server_port=1, client_port=2, capacity=10, load=0)
USERS = [NewUser(ip="1.1.1.1"), NewUser(ip="1.1.1.1")]


def session(node: str | None = "n", at: float = 0.0) -> NewSession:
    return NewSession(USERS, node, None if node else "why", None, at)


async def page_of(store: Store, node_id: str, *, since: int = 0, epoch: str | None = None) -> NodeSessions:
    page = await store.node_sessions(node_id, since=since, epoch=epoch, after=None, limit=10)
    assert page is not None
    return page


def test_a_failing_write_takes_no_other_with_it(store: Store) -> None:
    async def work() -> None:
        await store.heartbeat("n", BEAT, 0)
        made = (await store.create(session())).session.session_id
        results = await asyncio.gather(
            *(store.authorize(made, f"10.0.0.{number % 3}") for number in range(9)), return_exceptions=True
        )
        assert sum(isinstance(result, ConflictError) for result in results) == 6
        page = await page_of(store, "n")
        assert len(page.sessions[0].session_users) == 5

    asyncio.run(work())


def test_two_users_behind_one_address_get_a_token_each(store: Store) -> None:
    async def work() -> None:
        await store.heartbeat("n", BEAT, 0)
        await store.create(session())
        page = await page_of(store, "n")
        one, other = page.sessions[0].session_users
        assert one.authorization_token != other.authorization_token

    asyncio.run(work())


def test_times_of_a_clock_that_was_put_back_mean_nothing(store: Store) -> None:
    async def work() -> None:
        await store.heartbeat("n", BEAT, 5000.0)
        await store.create(
            session()._replace(node_id=None, error="why", webhook_url="http://a.example/", created_at=5000.0)
        )
        (call,) = await store.upcoming(1)
        await store.postpone(call.webhook_id, 5010.0)
        waiting = await store.create(session()._replace(created_at=5000.0))
        await store.go_by(1000.0)
        (node,) = await store.nodes()
        assert 1000.0 - node.heard_at > SILENT_AFTER
        (call,) = await store.upcoming(1)
        assert (call.due_at, call.created_at) == (1000.0, 1000.0)
        assert [one.session_ids for one in await store.fail_untaken(1000.0)] == [(waiting.session.session_id,)]
        await store.heartbeat("n", BEAT, 1001.0)
        await store.go_by(1001.0)
        assert [node.heard_at for node in await store.nodes()] == [1001.0], "what is not in the future stays"

    asyncio.run(work())


def test_a_token_that_is_taken_is_drawn_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # A session's, then its users'; the second session meets a token of the first, and then one of its users'.
    draws = iter([7, 7, 8, *(7,), *(1, 7, 9), *(1, 9, 10)])
    monkeypatch.setattr(session_queries, "_random_token", lambda _: next(draws))

    async def work() -> None:
        await store.heartbeat("n", BEAT, 0)
        for _ in range(2):
            await store.create(session())
        page = await page_of(store, "n")
        assert len({made.authorization_token for made in page.sessions}) == 2
        assert len({user.authorization_token for made in page.sessions for user in made.session_users}) == 4
        assert (await store.page(1, 10)).total == 2
        assert next(draws, None) is None

    asyncio.run(work())


def test_draws_that_are_taken_again_and_again_change_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_queries, "_random_token", lambda _: 7)

    async def work() -> None:
        heard = await store.heartbeat("n", BEAT, 0)
        with pytest.raises(IntegrityError):
            await store.create(session())  # its two users cannot both have it
        assert await store.heartbeat("n", BEAT, 0) == heard
        assert (await store.page(1, 10)).total == 0

    asyncio.run(work())


def test_a_relay_that_missed_more_removals_than_are_kept_reads_everything(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_queries, "REMOVALS_KEPT", 2)

    async def work() -> None:
        await store.heartbeat("n", BEAT, 0)
        epoch = await store.epoch()
        made = [(await store.create(session())).session.session_id for _ in range(4)]
        removed = [(await store.delete(one, 10.0)).revision for one in made]
        await store.tidy(11.0)

        async def full(since: int) -> bool:
            page = await page_of(store, "n", since=since, epoch=epoch)
            return page.full

        assert [await full(revision) for revision in removed] == [True, False, False, False]
        await store.tidy(10.0 + node_queries.REMOVALS_KEPT_FOR + 1)
        # By now the relay is forgotten too, since it has no sessions; it comes back at the newest revision.
        heard = await store.heartbeat("n", BEAT, 10.0**6)
        assert heard.revision == removed[-1]
        assert [await full(revision) for revision in removed] == [True, True, True, False]

    asyncio.run(work())


def test_another_relay_takes_a_name_over_after_10_s_of_silence(store: Store) -> None:
    moved = BEAT.model_copy(update={"client_port": 3})

    async def work() -> None:
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

    asyncio.run(work())


def test_what_a_relay_ended_goes_at_once_and_is_told_one_by_one(store: Store) -> None:
    async def work() -> None:
        for node in ("n", "other"):
            await store.heartbeat(node, BEAT, 0)
        made = [(await store.create(session())).session.session_id for _ in range(4)]
        foreign = (await store.create(session("other"))).session.session_id
        newest = (await store.heartbeat("n", BEAT, 1)).revision
        ended = [made[2], "nope", made[0], made[2], f"{made[1]}\x00", "", foreign]
        heard = await store.heartbeat("n", BEAT.model_copy(update={"ended": ended}), 2)
        assert sorted(heard.ended) == sorted([made[0], made[2]])
        assert heard.revision == newest + 3  # the other relay's session was the newest change until then
        page = await page_of(store, "n", since=newest, epoch=await store.epoch())
        assert (page.full, page.sessions, sorted(page.removed)) == (False, [], sorted([made[0], made[2]]))
        left = await store.page(1, 10)
        assert ([one.session_id for one in left.sessions], left.total) == ([made[1], made[3], foreign], 3)
        again = await store.heartbeat("n", BEAT.model_copy(update={"ended": ended}), 3)
        assert (again.ended, again.revision) == ((), heard.revision)

    asyncio.run(work())


def test_what_a_dead_relay_never_took_fails_and_is_gone_for_it(store: Store) -> None:
    async def work() -> None:
        epoch = await store.epoch()
        for node in ("dead", "alive"):
            await store.heartbeat(node, BEAT, 0)
        ready = await store.create(session("dead", at=1))
        applied = BEAT.model_copy(update={"epoch": epoch, "revision": ready.revision})
        await store.heartbeat("dead", applied, 2)
        lost = [(await store.create(session("dead", at=3))).session.session_id for _ in range(2)]
        late = (await store.create(session("dead", at=30))).session.session_id
        waiting = (await store.create(session("alive", at=3))).session
        known = late_revision = (await page_of(store, "dead", since=0, epoch=epoch)).revision
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
        delta = await page_of(store, "dead", since=known, epoch=epoch)
        assert (delta.full, sorted(delta.removed), delta.revision) == (False, sorted(lost), failed.revision)
        whole = await page_of(store, "dead")
        assert {one.session_id for one in whole.sessions} == {ready.session.session_id, late}
        # It comes back and applies everything: what failed stays failed, what still waited is ready.
        heard = await store.heartbeat("dead", applied.model_copy(update={"revision": failed.revision}), 41)
        assert heard.ready == (late,)
        assert (await store.get(waiting.session_id)).status == "Initializing"  # type: ignore[union-attr]
        await store.delete(lost[0], 50)
        assert (await store.page(1, 10)).total == 4
        await store.tidy(3700)
        assert await store.get(lost[1]) is None

    asyncio.run(work())


def test_failed_sessions_are_forgotten_after_a_while(store: Store) -> None:
    async def work() -> None:
        await store.create(session(None, at=0.0))
        kept = (await store.create(session(None, at=2000.0))).session.session_id
        await store.tidy(4000.0)
        page = await store.page(1, 10)
        assert ([one.session_id for one in page.sessions], page.total) == ([kept], 1)

    asyncio.run(work())


def test_keys_are_kept_until_they_are_revoked(store: Store) -> None:
    first = StoredKey("a" * 12, "backend", b"\x00\xff", frozenset({Scope.SESSIONS_READ, Scope.NODES_WRITE}), 1.0)
    second = first._replace(key_id="b" * 12, scopes=frozenset[Scope](), created_at=0.5)

    async def work() -> None:
        assert await store.keys() == []
        for key in (first, second):
            await store.add_key(key)
        assert await store.keys() == [second, first], "oldest first"
        assert await store.key(first.key_id) == first
        assert await store.key("c" * 12) is None
        assert [await store.revoke_key(first.key_id) for _ in range(2)] == [True, False]
        assert await store.keys() == [second]

    asyncio.run(work())


def test_a_webhook_waits_until_it_is_settled_or_its_session_is_gone(store: Store) -> None:
    async def work() -> None:
        await store.heartbeat("n", BEAT, 0)
        for number in range(3):
            await store.create(session()._replace(webhook_url=f"http://a.example/{number}"))
        assert await store.upcoming(10) == [], "none is ready"
        applied = BEAT.model_copy(update={"epoch": await store.epoch(), "revision": 3})
        heard = await store.heartbeat("n", applied, 5)
        assert len(heard.ready) == 3
        first, second, third = await store.upcoming(10)
        assert {(one.due_at, one.created_at, one.attempts) for one in (first, second, third)} == {(5.0, 5.0, 0)}
        assert f'"session_id":"{first.session_id}","authorization_token":' in first.body
        await store.postpone(first.webhook_id, 9.0)
        await store.settle(second.webhook_id)
        assert await store.upcoming(10) == [third, first._replace(attempts=1, due_at=9.0)]
        await store.delete(third.session_id, 10)
        assert [one.webhook_id for one in await store.upcoming(10)] == [first.webhook_id]

    asyncio.run(work())


def test_a_store_has_a_name_and_a_secret_of_its_own(store: Store) -> None:
    async def work() -> None:
        assert (len(await store.epoch()), len(await store.webhook_secret())) == (16, 64)

    asyncio.run(work())
