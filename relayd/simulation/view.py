"""What the simulated game shows: a live table on a terminal, plain lines elsewhere."""

import asyncio
import sys
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

from relayd.simulation.game import Game, PlayerReport

_REFRESH_SECONDS = 0.25
_LINE_SECONDS = 1.0


async def show(game: Game) -> None:
    """Shows the game until cancelled."""
    if sys.stdout.isatty():
        await _show_live(game)
    else:
        await _show_lines(game)


async def _show_live(game: Game) -> None:
    rates = _Rates()
    with Live(players_table(game, rates), console=Console(), auto_refresh=False) as live:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            live.update(players_table(game, rates), refresh=True)


async def _show_lines(game: Game) -> None:
    rates = _Rates()
    started = time.monotonic()
    while True:
        await asyncio.sleep(_LINE_SECONDS)
        reports = game.reports()
        valid = sum(report.became_valid for report in reports)
        rate = sum(rates.per_second(report) for report in reports)
        trips = [report.round_trip_p50_seconds for report in reports if report.round_trip_p50_seconds is not None]
        print(  # noqa: T201 - this is the command's output
            f"{time.monotonic() - started:5.0f} s  {valid} of {len(reports)} players valid, {rate:.0f} datagrams/s,"
            f" slowest round trip p50 {_milliseconds(max(trips, default=None))}",
            flush=True,
        )


def players_table(game: Game, rates: "_Rates | None" = None) -> Table:
    """How every player fares. With ``rates`` while the game runs; without, when it is over."""
    loss = "lost so far" if rates else "lost"
    table = Table("player", "state", "to host", "from host", loss, "round trip p50", "p99", box=None)
    if rates:
        table.add_column("rate")
    for report in game.reports():
        row = [
            str(report.number + 1),
            report.state.name.replace("_", " ").capitalize() if report.state is not None else "no answer yet",
            str(report.sent),
            str(report.received),
            str(report.lost_to_host + report.lost_to_player),
            _milliseconds(report.round_trip_p50_seconds),
            _milliseconds(report.round_trip_p99_seconds),
        ]
        if rates:
            row.append(f"{rates.per_second(report):.0f}/s")
        table.add_row(*row)
    return table


class _Rates:
    """Messages a second of each player, both ways together, since the last look."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[float, int]] = {}

    def per_second(self, report: PlayerReport) -> float:
        now, count = time.monotonic(), report.sent + report.received
        before, count_before = self._last.get(report.number, (now - _LINE_SECONDS, 0))
        self._last[report.number] = now, count
        return (count - count_before) / max(now - before, 1e-3)


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.2f} ms"
