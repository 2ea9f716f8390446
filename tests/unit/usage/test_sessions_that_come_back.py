"""A session that the source names again while the relay is giving up what is left of it."""

from pathlib import Path

import pytest

from relayd.core.desired import SessionSpec, Snapshot, UserSpec
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
    world.metering.close()
    world.records.close()
    world.boot()
    world.apply([])
    world.tick(interval_is_over=True)
    world.send_all()
    assert world.consumer.sums() == world.forwarded
    assert world.consumer.sums_of_records() == world.forwarded
