"""A store that was put back to a copy: it knows that it was, and takes back what a relay still has."""

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from relayd.control_plane.fleet import returns
from relayd.control_plane.models import NewUser
from relayd.control_plane.node_models import HandedBack, Heartbeat, NodeRevision
from relayd.control_plane.service import ControlPlane
from relayd.control_plane.store.contract import Heard, NewSession, Store
from relayd.control_plane.store.sqlite import SqliteStore
from relayd.control_plane.webhooks.delivery import Webhooks
from relayd.core.relay_session import RelaySession

BEAT = Heartbeat(ip="203.0.113.7", host="r", server_port=1, client_port=2, capacity=10, load=0)
NEW = NewSession([NewUser(ip="192.0.2.1"), NewUser(ip="192.0.2.2")], "n", None, None, 0.0)
PATH = "store.sqlite3"


class World:
    """A store in a file, of which there is a copy."""

    def __init__(self, folder: Path) -> None:
        self.path, self.copy = folder / PATH, folder / "copy.sqlite3"
        self.store: Store
        self.applied: tuple[str, int] = ("", 0)

    async def start(self) -> None:
        self.store = SqliteStore(str(self.path))
        await self.store.begin()

    async def restart(self) -> None:
        await self.store.close()
        await self.start()

    def back_up(self) -> None:
        with closing(sqlite3.connect(self.path)) as of, closing(sqlite3.connect(self.copy)) as to:
            of.backup(to)

    async def restore(self) -> None:
        await self.store.close()
        for rest in self.path.parent.glob(f"{PATH}*"):
            rest.unlink()
        shutil.copy(self.copy, self.path)
        await self.start()

    async def create(self) -> RelaySession:
        """One that the relay has applied."""
        made = (await self.store.create(NEW)).session.session_id
        await self.apply()
        return await self.session(made)

    async def session(self, session_id: str) -> RelaySession:
        found = await self.store.get(session_id)
        assert found is not None
        return found

    async def apply(self) -> None:
        """The relay applies all there is, and says so."""
        self.applied = (await self.store.epoch(), (await self.store.heartbeat("n", BEAT, 0)).revision)
        await self.beat()

    async def beat(self, *handed: RelaySession, **more: Any) -> Heard:
        """A heartbeat that hands these sessions back."""
        about = {"epoch": self.applied[0], "revision": self.applied[1], "handed_back": [back(one) for one in handed]}
        return await self.store.heartbeat("n", BEAT.model_copy(update=about), 0, **more)


def back(session: RelaySession, **changed: object) -> HandedBack:
    said = {name: getattr(session, name) for name in HandedBack.model_fields} | changed
    return HandedBack.model_validate(said)


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    def whole(work: Callable[[World], Awaitable[None]]) -> None:
        async def played() -> None:
            world = World(tmp_path)
            await world.start()
            await world.store.heartbeat("n", BEAT, 0)
            try:
                await work(world)
            finally:
                await world.store.close()

        asyncio.run(played())

    return whole


Play = Callable[[Callable[[World], Awaitable[None]]], None]


def test_a_store_that_was_restored_knows_it_whatever_number_its_changes_have_by_now(play: Play) -> None:
    async def work(world: World) -> None:
        old = await world.create()
        world.back_up()
        await world.create()
        assert not (await world.beat()).went_back
        await world.restore()
        assert (await world.beat()).went_back
        for _ in range(5):
            # Beyond the revision that the relay has: by numbers alone it would lack only what is newer.
            await world.store.authorize(old.session_id, f"192.0.2.{100 + _}")
        assert (await world.beat()).went_back
        page = await world.store.node_sessions("n", since=world.applied[1], epoch=world.applied[0], after=None, limit=9)
        assert page is not None
        assert page.full
        await world.apply()
        assert not (await world.beat()).went_back

    play(work)


def test_a_store_that_was_started_again_goes_on(play: Play) -> None:
    async def work(world: World) -> None:
        await world.create()
        for _ in range(3):
            await world.restart()
        assert not (await world.beat()).went_back
        await world.store.create(NEW)
        page = await world.store.node_sessions("n", since=world.applied[1], epoch=world.applied[0], after=None, limit=9)
        assert page is not None
        assert (page.full, len(page.sessions)) == (False, 1), "what changed, and not everything"

    play(work)


def test_a_copy_from_before_a_start_is_known_too_and_another_store_is_not(play: Play) -> None:
    async def work(world: World) -> None:
        await world.create()
        world.back_up()
        await world.restart()
        young = await world.create()
        await world.restore()
        assert (await world.beat()).went_back
        assert (await world.beat(young)).taken_back == (young.session_id,)
        world.applied = ("another.history", 10**6)
        heard = await world.beat(young)
        assert (heard.went_back, heard.taken_back) == (False, ()), "a database that begins anew is believed"

    play(work)


def test_what_it_lost_is_taken_back_as_it_was_and_once(play: Play) -> None:
    async def work(world: World) -> None:
        world.back_up()
        young = await world.create()
        await world.restore()
        before = (await world.store.totals()).sessions
        for _ in range(2):
            heard = await world.beat(young)
            assert heard.taken_back == (young.session_id,)
            assert (await world.store.totals()).sessions == before + 1
        assert heard.ready == (), "so that no webhook is sent again"
        assert await world.session(young.session_id) == young
        page = await world.store.node_sessions("n", since=0, epoch=None, after=None, limit=9)
        assert page is not None
        assert (page.revision, [one.session_id for one in page.sessions]) == (heard.revision, [young.session_id])

    play(work)


def test_nothing_is_taken_back_that_the_store_did_not_lose(play: Play) -> None:
    async def work(world: World) -> None:
        young = await world.create()
        await world.store.delete(young.session_id, 0)
        invented = back(young, session_id="0123456789ab-S", authorization_token=77)
        about = {"epoch": world.applied[0], "revision": world.applied[1], "handed_back": [invented]}
        heard = await world.store.heartbeat("n", BEAT.model_copy(update=about), 0)
        assert (heard.went_back, heard.taken_back) == (False, ())
        assert (await world.store.totals()).sessions == 0

    play(work)


@pytest.mark.parametrize(
    "odd",
    [
        {"session_id": "no id of ours"},
        {"session_id": "0123456789ab-S\n"},
        {"authorization_token": "of another session"},
        {"session_users": "of another session"},
        {"session_users": "twice the same"},
        {"session_users": []},
        {"session_users": [{"authorization_token": 5}]},
    ],
    ids=str,
)
def test_what_contradicts_what_is_there_is_not_taken(play: Play, odd: dict[str, Any]) -> None:
    async def work(world: World) -> None:
        old = await world.create()
        world.back_up()
        young = await world.create()
        await world.restore()
        special: dict[object, object] = {
            ("authorization_token", "of another session"): old.authorization_token,
            ("session_users", "of another session"): [young.session_users[0], old.session_users[0]],
            ("session_users", "twice the same"): [young.session_users[0]] * 2,
        }
        changed = {
            name: special.get((name, value), value) if isinstance(value, str) else value for name, value in odd.items()
        }
        about = {"epoch": world.applied[0], "revision": world.applied[1], "handed_back": [back(young, **changed)]}
        heard = await world.store.heartbeat("n", BEAT.model_copy(update=about), 0)
        assert (heard.went_back, heard.taken_back) == (True, ())
        assert (await world.store.totals()).sessions == 1
        assert await world.session(old.session_id) == old

    play(work)


def test_a_session_of_another_relay_or_with_another_token_stays_as_it_is(play: Play) -> None:
    async def work(world: World) -> None:
        mine = await world.create()
        await world.store.heartbeat("m", BEAT.model_copy(update={"ip": "203.0.113.9"}), 0)
        other = (await world.store.create(NEW._replace(node_id="m"))).session.session_id
        world.back_up()
        await world.create()
        await world.restore()
        theirs = mine.model_copy(update={"session_id": other})
        forged = mine.model_copy(update={"authorization_token": 77})
        assert (await world.beat(theirs, forged)).taken_back == ()
        assert await world.session(mine.session_id) == mine

    play(work)


def test_what_was_deleted_since_stays_deleted(play: Play) -> None:
    async def work(world: World) -> None:
        old = await world.create()
        world.back_up()
        young = await world.create()
        await world.restore()
        await world.store.delete(old.session_id, 0)
        heard = await world.beat(old, young, unwanted={(young.session_id, None)})
        assert heard.taken_back == ()
        assert (await world.store.totals()).sessions == 0

    play(work)


def test_users_who_were_let_in_after_the_copy_come_back_and_revoked_ones_do_not(play: Play) -> None:
    async def work(world: World) -> None:
        first, second = await world.create(), await world.create()
        world.back_up()
        late = [(await world.store.authorize(one.session_id, "192.0.2.9")).user for one in (first, second)]
        await world.apply()
        handed = [await world.session(one.session_id) for one in (first, second)]
        await world.restore()
        await world.store.revoke(second.session_id, second.session_users[1].authorization_token)
        assert (await world.beat(*handed)).taken_back == (first.session_id, second.session_id)
        users = [(await world.session(one.session_id)).session_users for one in (first, second)]
        assert users == [[*first.session_users, late[0]], [second.session_users[0]]], "what changed since counts"

    play(work)


def test_a_user_whom_somebody_wanted_to_revoke_stays_away(play: Play) -> None:
    async def work(world: World) -> None:
        world.back_up()
        young = await world.create()
        await world.restore()
        host, player = young.session_users
        unwanted = {(young.session_id, player.authorization_token)}
        assert (await world.beat(young, unwanted=unwanted)).taken_back == (young.session_id,)
        assert (await world.session(young.session_id)).session_users == [host]

    play(work)


# The service -------------------------------------------------------------------------------------------------------


def served(folder: Path, work: Callable[[ControlPlane, RelaySession, Heartbeat], Awaitable[None]]) -> None:
    """A control plane that lost a session, which it is given with the heartbeat that would hand it back."""

    async def whole() -> None:
        world = World(folder)
        await world.start()
        await world.store.heartbeat("n", BEAT, 0)
        world.back_up()
        young = await world.create()
        await world.restore()
        plane = ControlPlane(world.store, Webhooks(world.store, "secret", allow_private=True), clock=lambda: 0.0)
        await plane.start()
        about = {"epoch": world.applied[0], "revision": world.applied[1], "handed_back": [back(young)]}
        try:
            await work(plane, young, BEAT.model_copy(update=about))
        finally:
            await plane.stop()

    asyncio.run(whole())


def said(news: NodeRevision) -> tuple[bool | None, list[str] | None]:
    return news.went_back, news.taken_back


def test_a_relay_is_told_that_the_store_went_back_and_what_was_taken(tmp_path: Path) -> None:
    async def work(plane: ControlPlane, young: RelaySession, beat: Heartbeat) -> None:
        asked = await plane.heartbeat("n", beat.model_copy(update={"handed_back": []}), wait=30.0)
        assert said(asked) == (True, None), "at once"
        assert said(await plane.heartbeat("n", beat)) == (True, [young.session_id])
        assert await plane.get(young.session_id) == young
        newest = plane.newest("n")
        again = beat.model_copy(update={"epoch": newest.epoch, "revision": newest.revision, "handed_back": []})
        assert said(await plane.heartbeat("n", again)) == (None, None)

    served(tmp_path, work)


@pytest.mark.parametrize("what", ["session", "user"])
def test_what_somebody_wanted_to_take_out_before_it_came_back_stays_out(tmp_path: Path, what: str) -> None:
    async def work(plane: ControlPlane, young: RelaySession, beat: Heartbeat) -> None:
        host, player = young.session_users
        with pytest.raises(Exception, match="There is no session"):
            if what == "session":
                await plane.delete(young.session_id)
            else:
                await plane.revoke(young.session_id, player.authorization_token)
        taken = [young.session_id] if what == "user" else []
        assert said(await plane.heartbeat("n", beat)) == (True, taken)
        if what == "user":
            assert (await plane.get(young.session_id)).session_users == [host]

    served(tmp_path, work)


def test_a_relay_hands_back_no_more_than_it_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returns, "MOST_RETURNED", 0)

    async def work(plane: ControlPlane, young: RelaySession, beat: Heartbeat) -> None:
        assert said(await plane.heartbeat("n", beat)) == (True, [])
        assert (await plane.totals()).sessions == 0

    served(tmp_path, work)


def test_what_somebody_wanted_to_take_out_takes_no_more_memory_than_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returns, "_MOST_MISSED", 3)
    asked = returns.Returns()
    session = RelaySession(session_id="0123456789ab-S", authorization_token=1)
    beat = BEAT.model_copy(update={"handed_back": [back(session)]})
    for number in range(5):
        asked.missed(f"{number:012x}-S")
    asked.missed("x" * 100_000)
    asked.missed("0123456789ab-S", 1 << 100_000)
    kept = {(f"{number:012x}-S", None) for number in (2, 3, 4)}
    assert asked.allowed("n", beat) == (beat, kept)
    assert asked.allowed("n", BEAT) == (BEAT, ())
