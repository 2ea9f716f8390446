"""A control plane that went back: what somebody plays in is handed back before anything ends."""

import asyncio
from collections.abc import Callable

from relayd.core.desired import SessionSpec, UserSpec
from relayd.core.endpoint import Endpoint
from relayd.core.limits import Limits
from relayd.core.source_status import Load
from relayd.core.table import Table
from relayd.core.wire import Port
from relayd.session_source.control_plane.follow import ControlPlaneSource
from relayd.session_source.control_plane.link import LinkError
from relayd.session_source.control_plane.returns import LIMIT_SECONDS, batches
from relayd.session_source.owner import TableOwner
from tests.support.links import FakeLink, session
from tests.support.relays import ids_in_order
from tests.support.virtual_loop import Running, now, run

POLL_SECONDS = 2.0
WHILE = 20 * POLL_SECONDS


class World:
    """A source between a control plane and a real table, in which users are bound."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.table = Table(Limits(user_timeout=10_000.0, session_idle_timeout=0), ids_in_order())
        self.source = ControlPlaneSource(
            link=self.link,
            table=TableOwner(self.table),
            keeper=None,
            poll_interval=POLL_SECONDS,
            shrink_hold=0.0,
            load=lambda: Load(0, False),
        )

    async def follow(self, *specs: SessionSpec, played: tuple[int, ...] = (), user: int = 2) -> None:
        """Has these sessions applied, and that user bound in some of them."""
        self.link.put(*specs)
        await asyncio.sleep(WHILE)
        for number in played:
            self.table.bind(
                self.table.sessions[f"game-{number}"].users[user],
                Endpoint(Port.CLIENT, 1),
                ("203.0.113.9", 5000 + number),
                now(),
            )

    @property
    def ids(self) -> set[str]:
        return set(self.table.sessions)

    @property
    def handed(self) -> list[set[str]]:
        """Ids of the sessions that were handed back, heartbeat by heartbeat."""
        return [{spec.session_id for spec in one.handed_back} for one in self.link.reports if one.handed_back]


def played_through(work: Callable[[World], object]) -> None:
    async def whole() -> None:
        world = World()
        async with Running(world.source.run()):
            await work(world)  # type: ignore[misc]  # all of them are coroutines

    run(whole())


def test_what_is_played_in_is_handed_back_and_goes_on_and_the_rest_ends() -> None:
    async def work(world: World) -> None:
        await world.follow(*map(session, range(6)), played=(1, 4, 5))
        bound = [world.table.sessions[f"game-{number}"] for number in (1, 4, 5)]
        world.link.go_back(session(0), session(1))
        await asyncio.sleep(WHILE)
        assert world.handed == [{"game-4", "game-5"}], "once, and only what it lacks and somebody plays in"
        assert world.ids == {"game-0", "game-1", "game-4", "game-5"}
        assert [one.bound for one in bound] == [1, 1, 1], "and nobody was unbound meanwhile"
        (spec,) = [one for report in world.link.reports for one in report.handed_back if one.session_id == "game-4"]
        assert spec == session(4)
        assert world.link.reports[-1].applied == world.link.version
        world.link.remove("game-4")
        await asyncio.sleep(WHILE)
        assert "game-4" not in world.ids

    played_through(work)


def test_a_session_that_lacks_a_user_who_plays_is_handed_back_too() -> None:
    async def work(world: World) -> None:
        await world.follow(session(1, users=3), played=(1,), user=3)
        world.link.go_back(session(1, users=2))
        await asyncio.sleep(WHILE)
        assert world.handed == [{"game-1"}]
        assert world.table.sessions["game-1"].bound == 1

    played_through(work)


def test_what_is_not_taken_back_ends_and_is_not_handed_back_again() -> None:
    async def work(world: World) -> None:
        await world.follow(session(1), session(2), played=(2,))
        world.link.takes_back = False
        world.link.go_back(session(1))
        await asyncio.sleep(WHILE)
        assert world.handed == [{"game-2"}]
        assert world.ids == {"game-1"}

    played_through(work)


def test_nothing_ends_while_it_is_not_said_whether_it_is_taken_back_and_the_relay_gives_up_in_the_end() -> None:
    async def work(world: World) -> None:
        await world.follow(session(1), session(2), played=(2,))
        world.link.return_failure = LinkError("busy")
        world.link.go_back(session(1))
        await asyncio.sleep(LIMIT_SECONDS - POLL_SECONDS)
        assert world.ids == {"game-1", "game-2"}
        await asyncio.sleep(WHILE + POLL_SECONDS)
        assert world.ids == {"game-1"}

    played_through(work)


def test_a_control_plane_that_lost_all_of_its_past_is_believed_as_ever() -> None:
    async def work(world: World) -> None:
        await world.follow(session(1), session(2), played=(2,))
        world.link.go_back(session(1))
        world.link.went_back_from = None
        await asyncio.sleep(WHILE)
        assert (world.handed, world.ids) == ([], {"game-1"})

    played_through(work)


def test_a_heartbeat_carries_so_many_sessions_and_so_many_users() -> None:
    def sized(users: int) -> SessionSpec:
        return SessionSpec("s", 1, tuple(UserSpec(user, None) for user in range(users)))

    assert [len(batch) for batch in batches(map(session, range(450)))] == [200, 200, 50]
    assert [len(batch) for batch in batches([sized(4000), sized(4000), sized(4000), sized(20_000), sized(1)])] == [
        2,
        1,
        1,
        1,
    ]
    assert list(batches([])) == []
