"""A simulated game through a whole relay, on wires that lose, change and double what they carry."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from relayd.core.wire import State
from relayd.simulation.game import Game, GameKeys, PlayerReport
from relayd.simulation.peers import PING_SECONDS, TICKS_PER_SECOND
from relayd.simulation.view import players_table, show
from tests.support.relays import ALICE, BOB, HOST, SESSION
from tests.support.virtual_loop import run
from tests.support.whole_relay import WholeRelay
from tests.support.wires import Wire, lay_wires

KEYS = GameKeys(("127.0.0.1", 1), ("127.0.0.1", 2), SESSION, HOST, (ALICE, BOB))
Work = Callable[[WholeRelay, Game, list[Wire]], Coroutine[Any, Any, None]]


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Game]:
    """Plays a game beside a test, and gives it when it is over."""

    def play(work: Work, keys: GameKeys = KEYS) -> Game:
        async def started() -> Game:
            async with WholeRelay(tmp_path, monkeypatch).serving() as one:
                wires = lay_wires(monkeypatch, one.server, one.client)
                game = Game(keys)
                playing = asyncio.create_task(game.play())
                await work(one, game, wires)
                game.stop()
                await playing
                assert all(wire.closed for wire in wires)
                return game

        return run(started())

    return play


async def for_ten_seconds(*_: object) -> None:
    await asyncio.sleep(10.0)


def test_a_game_in_which_nothing_is_lost(played: Callable[..., Game]) -> None:
    game = played(for_ten_seconds)
    assert game.flawless
    for report in game.reports():
        assert report.state is State.VALID
        assert report.sent == pytest.approx(10 * TICKS_PER_SECOND, abs=5)
        assert report.received >= report.sent - 5
        assert (report.lost_to_host, report.lost_to_player, report.unordered, report.corrupted) == (0, 0, 0, 0)
        assert report.round_trip_p50_seconds is not None
    assert len(game.host.all_connections()) == 2
    assert game.host.pings == pytest.approx(10 / PING_SECONDS, abs=2)
    assert game.host.states_seen == {State.VALID}


def every(count: int, then: Callable[[bytes], list[bytes]]) -> Callable[[bytes], list[bytes]]:
    """Does that to each so-manyth datagram of the game."""
    numbers = itertools.count(1)

    def sometimes(data: bytes) -> list[bytes]:
        return then(data) if len(data) > 20 and next(numbers) % count == 0 else [data]

    return sometimes


def flipped(data: bytes) -> list[bytes]:
    return [data[:-1] + bytes((data[-1] ^ 1,))]


def on_both_ways(then: Callable[[bytes], list[bytes]]) -> Work:
    async def work(_: WholeRelay, game: Game, wires: list[Wire]) -> None:
        await asyncio.sleep(1.0)
        wires[1].to_relay, wires[1].to_peer = every(10, then), every(10, then)
        await asyncio.sleep(10.0)
        wires[1].to_relay = wires[1].to_peer = lambda data: [data]
        await asyncio.sleep(1.0)

    return work


def reports(game: Game) -> tuple[PlayerReport, PlayerReport]:
    first, second = game.reports()
    return first, second


def test_what_is_lost_is_counted_by_direction(played: Callable[..., Game]) -> None:
    first, second = reports(played(on_both_ways(lambda _: [])))
    assert first.lost_to_host == pytest.approx(30, abs=2)
    assert first.lost_to_player == pytest.approx(30, abs=2)
    assert second.flawless
    assert not first.flawless


def test_what_comes_twice_is_counted(played: Callable[..., Game]) -> None:
    first, second = reports(played(on_both_ways(lambda data: [data, data])))
    assert first.unordered == pytest.approx(60, abs=4)
    assert first.lost_to_host == first.lost_to_player == 0
    assert second.flawless


def test_what_is_changed_on_the_way_is_noticed_at_both_ends(played: Callable[..., Game]) -> None:
    game = played(on_both_ways(flipped))
    first, second = reports(game)
    assert first.corrupted == pytest.approx(30, abs=2)
    assert game.host.corrupted == pytest.approx(30, abs=2)
    assert second.flawless
    assert not game.flawless


def test_what_is_late_is_out_of_order_and_not_lost(played: Callable[..., Game]) -> None:
    held: list[bytes] = []

    def late(data: bytes) -> list[bytes]:
        """One waits for the next."""
        if held:
            return [data, held.pop()]
        held.append(data)
        return []

    async def work(_: WholeRelay, game: Game, wires: list[Wire]) -> None:
        await asyncio.sleep(1.0)
        wires[1].to_peer = lambda data: late(data) if len(data) > 20 else [data]
        await asyncio.sleep(4.0)
        if held:
            await asyncio.sleep(1 / TICKS_PER_SECOND)
        wires[1].to_peer = lambda data: [data, *(held and [held.pop()])]
        await asyncio.sleep(1.0)

    first, _ = reports(played(work))
    assert first.unordered > 50
    assert first.lost_to_player == 0


def test_a_player_with_a_wrong_token_is_never_let_in(played: Callable[..., Game]) -> None:
    game = played(for_ten_seconds, KEYS._replace(player_tokens=(ALICE, 4711)))
    first, second = reports(game)
    assert first.flawless
    assert not second.became_valid
    assert (second.sent, second.received) == (0, 0)
    assert not game.flawless


def test_an_icmp_error_is_a_flaw(played: Callable[..., Game]) -> None:
    async def work(_: WholeRelay, game: Game, wires: list[Wire]) -> None:
        await asyncio.sleep(1.0)
        wires[1].peer.error_received(ConnectionRefusedError())

    game = played(work)
    assert [report.unreachable for report in game.reports()] == [1, 0]
    assert not game.flawless


def test_a_live_table_and_the_last_one(played: Callable[..., Game], capsys: pytest.CaptureFixture[str]) -> None:
    async def work(_: WholeRelay, game: Game, wires: list[Wire]) -> None:
        showing = asyncio.create_task(show(game))
        await asyncio.sleep(3.5)
        showing.cancel()

    game = played(work)
    lines = [line for line in capsys.readouterr().out.splitlines() if "players valid" in line]
    assert len(lines) == 3, "a line a second where there is no terminal"
    assert all("2 of 2 players valid" in line for line in lines)
    table = players_table(game)
    assert [str(column.header) for column in table.columns][:3] == ["player", "state", "to host"]
    assert list(table.columns[1].cells) == ["Valid", "Valid"]
    assert "lost" in [str(column.header) for column in table.columns]


def test_a_player_that_nobody_answered() -> None:
    table = players_table(Game(KEYS))
    assert list(table.columns[1].cells) == ["no answer yet"] * 2
    assert list(table.columns[5].cells) == ["–"] * 2
