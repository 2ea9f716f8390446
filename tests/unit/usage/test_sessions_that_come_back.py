"""Sessions that come or go while a relay begins or ends."""

import asyncio
from pathlib import Path

import pytest

from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.state.memory import NAME
from tests.support.usage_world import UsageWorld

HOST, PLAYERS = 1, (2, 3)


def spec(session_id: str, token: int) -> SessionSpec:
    return SessionSpec(session_id, token, tuple(UserSpec(user, None) for user in (HOST, *PLAYERS)))


def play(world: UsageWorld, session_id: str, token: int) -> None:
    world.host_pings(token, HOST)
    for player in PLAYERS:
        world.player_sends(session_id, token, player)


@pytest.mark.parametrize("steps", range(12))
def test_nothing_is_counted_twice_and_no_accounting_fails(tmp_path: Path, steps: int) -> None:
    both = [spec("a", 101), spec("b", 102)]
    world = UsageWorld(tmp_path)
    world.apply(both)
    for one in both:
        play(world, one.session_id, one.token)
    world.tick(interval_is_over=True)
    world.kill()
    world.boot()
    giving_up = world.apply_in_steps(both[1:])
    for _ in range(steps):
        next(giving_up, None)
    world.table.apply(Snapshot.of(both), world.now)
    for _ in giving_up:
        pass
    for one in both:
        play(world, one.session_id, one.token)
        world.tick(interval_is_over=True)
    asyncio.run(world.metering.close())
    world.records.close()
    world.boot()
    world.apply([])
    world.tick(interval_is_over=True)
    world.send_all()
    assert world.consumer.sums() == world.forwarded
    assert world.consumer.sums_of_records() == world.forwarded


def test_what_ended_just_before_the_relay_is_recorded_without_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than is written at once, and the next relay is of another version, which cannot read the counts."""
    monkeypatch.setattr("relayd.usage.journal._LINES_AT_ONCE", 3)
    games = [spec(f"game {number}", 101 + number) for number in range(10)]
    world = UsageWorld(tmp_path)
    world.apply(games)
    world.tick()
    for one in games:
        play(world, one.session_id, one.token)
    world.apply([])
    asyncio.run(world.metering.close())
    world.records.close()
    (tmp_path / NAME).unlink()
    world.boot()
    world.apply([])
    world.tick(interval_is_over=True)
    world.send_all()
    assert world.consumer.sums() == world.forwarded
