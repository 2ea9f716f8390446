"""The owner of the table: what it tells of itself, in which order things happen, and when what is due ends.

The table in memory that other tests use is held to the same.
"""

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from relayd.core.desired import Change, InvalidSessionsError, Snapshot
from relayd.core.endpoint import Endpoint
from relayd.core.events import Event, EventKind
from relayd.core.followers import Phase
from relayd.core.limits import Limits
from relayd.core.table import Table
from relayd.core.wire import Port
from relayd.session_source import SessionTable
from relayd.session_source.owner import TableOwner
from tests.support.links import FakeSessionTable, session
from tests.support.relays import ids_in_order
from tests.support.virtual_loop import Running, now, run

TABLES: list[Callable[[], SessionTable]] = [lambda: TableOwner(Table(Limits(), ids_in_order())), FakeSessionTable]
either = pytest.mark.parametrize("make", TABLES, ids=["owner", "fake"])


def whole(*numbers: int) -> Snapshot:
    return Snapshot.of(session(number) for number in numbers)


@either
def test_a_whole_state_takes_the_place_of_the_one_before(make: Callable[[], SessionTable]) -> None:
    async def work() -> None:
        table = make()
        await table.replace(whole(1, 2))
        await table.replace(whole(2, 3))
        assert set(table.session_ids()) == {"game-2", "game-3"}
        assert {one.session_id: set(one.users) for one in table.sessions()} == {"game-2": {1, 2}, "game-3": {1, 2}}
        assert {one.token for one in table.sessions()} == {102, 103}

    run(work())


@either
def test_a_change_leaves_the_others_alone(make: Callable[[], SessionTable]) -> None:
    async def work() -> None:
        table = make()
        await table.replace(whole(1, 2))
        untouched = next(one for one in table.sessions() if one.session_id == "game-2")
        await table.change(Change((session(3), session(2)), ("game-1", "nobody knows this one")))
        assert set(table.session_ids()) == {"game-2", "game-3"}
        if isinstance(table, TableOwner):
            assert any(one is untouched for one in table.sessions())

    run(work())


@either
def test_the_edition_is_another_one_when_something_changed_and_only_then(make: Callable[[], SessionTable]) -> None:
    async def work() -> None:
        table = make()
        editions = [table.edition()]
        for snapshot in (whole(1), whole(1, 2), Snapshot.of([session(1), session(2, users=3)]), whole()):
            await table.replace(snapshot)
            editions.append(table.edition())
        assert len(set(editions)) == 5
        await table.replace(whole())
        await table.change(Change())
        assert table.edition() == editions[-1]

    run(work())


@either
def test_what_contradicts_the_table_is_refused(make: Callable[[], SessionTable]) -> None:
    async def work() -> None:
        table = make()
        await table.replace(whole(1))
        with pytest.raises(InvalidSessionsError):
            await table.change(Change((session(1)._replace(session_id="twin"),)))
        assert set(table.session_ids()) == {"game-1"}

    run(work())


@either
def test_a_token_may_pass_from_one_session_to_another(make: Callable[[], SessionTable]) -> None:
    async def work() -> None:
        table = make()
        await table.replace(whole(1))
        await table.change(Change((session(1)._replace(session_id="heir"),), ("game-1",)))
        assert set(table.session_ids()) == {"heir"}

    run(work())


def test_what_was_applied_is_said_once() -> None:
    async def work() -> None:
        owner = TableOwner(Table(Limits(), ids_in_order()))
        assert not owner.loaded.is_set()
        with capture_logs() as logs:
            await owner.replace(whole())
            await owner.replace(whole())
            await owner.replace(whole(1, 2))
            await owner.replace(whole(1, 2))
        assert owner.loaded.is_set()
        said = [(line["before"], line["sessions"], line["users"]) for line in logs]
        assert said == [(0, 0, 0), (0, 2, 4)], "the first state is said even if it is empty"

    run(work())


def test_many_removals_let_others_run_in_between() -> None:
    async def work() -> None:
        owner = TableOwner(Table(Limits(), ids_in_order()))
        await owner.replace(whole(*range(1000)))
        seen: list[int] = []

        async def others() -> None:
            while True:
                seen.append(len(owner.session_ids()))
                await asyncio.sleep(0)

        async with Running(others()):
            await owner.change(Change(removals=tuple(f"game-{number}" for number in range(1000))))
        assert {1000, 800, 600, 400, 200} <= set(seen)

    run(work())


def test_two_who_change_it_at_once_do_so_one_after_another() -> None:
    async def work() -> None:
        owner = TableOwner(Table(Limits(), ids_in_order()))
        await owner.replace(whole(*range(500)))
        removals = tuple(f"game-{number}" for number in range(500))
        await asyncio.gather(owner.change(Change(removals=removals)), owner.replace(whole(1, 2)))
        assert set(owner.session_ids()) == {"game-1", "game-2"}

    run(work())


class Expiring:
    """An owner that ends what is due, and what its table told."""

    def __init__(self, **limits: float) -> None:
        self.events: list[tuple[EventKind, float]] = []
        self.table = Table(Limits(**limits), ids_in_order())
        self.table.followers.subscribe(Phase.READERS, self)
        self.owner = TableOwner(self.table)

    def event(self, event: Event) -> None:
        self.events.append((event.kind, now()))

    def bind(self, session_id: str) -> None:
        user = self.table.sessions[session_id].users[1]
        self.table.bind(user, Endpoint(Port.CLIENT, 1), ("203.0.113.1", 5000), now())

    def at(self, kind: EventKind) -> list[float]:
        return [at for what, at in self.events if what is kind]


def test_whoever_is_silent_is_unbound_when_it_is_due_and_the_session_ends_after_that() -> None:
    async def work() -> None:
        world = Expiring(user_timeout=30.0, session_idle_timeout=300.0)
        await world.owner.replace(whole(1))
        began = now()
        world.bind("game-1")
        async with Running(world.owner.expire_forever()):
            await asyncio.sleep(1000.0)
        (silent,), (idle,) = world.at(EventKind.USER_SILENT), world.at(EventKind.SESSION_IDLE)
        assert began + 30.0 <= silent <= began + 31.0
        # Empty since it was last heard, which is when it began.
        assert began + 300.0 <= idle <= began + 331.0
        assert world.owner.sessions() == []

    run(work())


def test_very_many_that_are_due_at_once_end_in_slices() -> None:
    async def work() -> None:
        world = Expiring(session_idle_timeout=10.0)
        await world.owner.replace(whole(*range(1000)))
        seen: set[int] = set()

        async def others() -> None:
            while True:
                seen.add(len(world.owner.session_ids()))
                await asyncio.sleep(0 if now() > began + 9.0 else 1.0)
                if not world.owner.session_ids():
                    await asyncio.sleep(1e4)

        began = now()
        async with Running(world.owner.expire_forever(), others()):
            await asyncio.sleep(20.0)
        assert {1000, 800, 600, 400, 200} <= seen
        assert world.at(EventKind.SESSION_IDLE)[-1] <= began + 11.0

    run(work())


def test_who_is_bound_where_another_relay_is_is_unbound() -> None:
    async def work() -> None:
        table = Table(Limits(), ids_in_order())
        owner = TableOwner(table)
        await owner.replace(whole(1, 2))
        for name, port in (("game-1", 5000), ("game-2", 5001)):
            table.bind(table.sessions[name].users[2], Endpoint(Port.CLIENT, 1), ("203.0.113.9", port), now())
        with capture_logs() as logged:
            await owner.leave_relays({("203.0.113.9", 5000)})
        assert [table.sessions[name].bound for name in ("game-1", "game-2")] == [0, 1]
        event = "addresses of the fleet's other relays are refused"
        assert logged == [{"event": event, "sockets": 1, "log_level": "info"}]

    run(work())
