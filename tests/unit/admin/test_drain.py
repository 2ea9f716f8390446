"""A drain from its beginning to its end, and all the ways in which it is not over yet."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from structlog.testing import capture_logs

from relayd.admin.answers import DrainStatus
from relayd.admin.drain import Drain
from relayd.core.source_status import SourceStatus
from tests.support.relays import Relay
from tests.support.virtual_loop import now, run


class World:
    def __init__(self) -> None:
        self.relay = Relay()
        self.source = SourceStatus()
        self.drain = Drain(self.relay.engine, self.source)

    def leave(self) -> None:
        """Everybody has been silent for too long."""
        self.relay.now += 1000.0
        while self.relay.expire():
            pass

    async def waited(self, limit_seconds: float = 0.0) -> tuple[bool, float]:
        """What waiting for the end gave, and how long it took."""
        began = now()
        return await self.drain.until_done(limit_seconds), now() - began


def drained(draining: bool, active_sessions: int, bound_users: int, told: bool | None) -> DrainStatus:
    return DrainStatus(
        draining=draining, active_sessions=active_sessions, bound_users=bound_users, control_plane_told=told
    )


def in_world(work: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def started() -> None:
        await work(World())

    run(started())


def test_to_begin_refuses_new_games_and_says_so_once() -> None:
    world = World()
    world.relay.host_pings()
    world.relay.player_pings()
    with capture_logs() as logs:
        first, second = world.drain.begin(), world.drain.begin()
    assert first == second == drained(True, 1, 2, None)
    assert world.relay.engine.draining
    assert [line["active_sessions"] for line in logs] == [1]


def test_to_undo_takes_new_games_again_and_says_so_once() -> None:
    world = World()
    world.drain.begin()
    with capture_logs() as logs:
        assert world.drain.undo() == world.drain.undo() == drained(False, 0, 0, None)
    assert not world.relay.engine.draining
    assert len(logs) == 1


@pytest.mark.parametrize(
    ("told", "problem", "known"),
    [(None, None, None), (False, None, False), (True, None, True), (True, "away", None)],
)
def test_whether_the_control_plane_knows(told: bool | None, problem: str | None, known: bool | None) -> None:
    world = World()
    world.source.told_draining = told
    if problem:
        world.source.failed(problem)
    assert world.drain.begin().control_plane_told is known


@pytest.mark.parametrize(
    ("status", "done"),
    [
        (drained(True, 0, 0, None), True),
        (drained(True, 0, 0, True), True),
        (drained(True, 0, 0, False), False),
        (drained(True, 1, 1, True), False),
        (drained(False, 0, 0, None), False),
    ],
)
def test_when_it_is_done(status: DrainStatus, done: bool) -> None:
    assert status.done is done
    assert "done" not in status.fields()


def test_where_nobody_plays_it_is_over_at_once() -> None:
    async def work(world: World) -> None:
        assert await world.waited() == (True, 0.0)

    in_world(work)


def test_it_is_over_when_the_last_has_gone() -> None:
    async def work(world: World) -> None:
        world.relay.player_pings()
        asyncio.get_running_loop().call_later(500.0, world.leave)
        done, seconds = await world.waited()
        assert done
        assert 500.0 <= seconds <= 500.5

    in_world(work)


def test_it_is_not_over_before_the_control_plane_knows() -> None:
    async def work(world: World) -> None:
        world.source.told_draining = False

        def tell() -> None:
            world.source.told_draining = True

        asyncio.get_running_loop().call_later(30.0, tell)
        done, seconds = await world.waited()
        assert done
        assert 30.0 <= seconds <= 30.5

    in_world(work)


def test_a_limit_ends_it_with_games_that_still_run_and_the_log_has_how_many() -> None:
    async def work(world: World) -> None:
        world.relay.host_pings()
        world.relay.player_pings()
        with capture_logs() as logs:
            done, seconds = await world.waited(60.0)
        assert done
        assert 60.0 <= seconds <= 60.5
        assert (logs[-1]["log_level"], logs[-1]["active_sessions"], logs[-1]["bound_users"]) == ("warning", 1, 2)

    in_world(work)


def test_one_that_is_undone_is_waited_for_no_longer() -> None:
    async def work(world: World) -> None:
        world.relay.player_pings()
        asyncio.get_running_loop().call_later(10.0, world.drain.undo)
        done, seconds = await world.waited()
        assert not done
        assert 10.0 <= seconds <= 10.5

    in_world(work)


def test_whoever_waits_is_seen_to_wait() -> None:
    async def work(world: World) -> None:
        world.relay.player_pings()
        seen: list[bool] = []
        asyncio.get_running_loop().call_later(10.0, lambda: seen.append(world.drain.awaited))
        await world.waited(20.0)
        assert seen == [True]

    in_world(work)
