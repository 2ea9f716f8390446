"""`relayd top`: what goes through the running relay at the moment, from the difference of two looks at it."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from relayd.client.admin import AdminClient

_SESSIONS_SHOWN = 20
_ROWS_FOR_THE_REST = 14
_THROUGH = ("forwarded", "answered")
_DIRECTIONS = {"to_host": "client", "to_player": "server"}
"""Direction → the port at which what goes that way arrives."""


class TopOptions(NamedTuple):
    """Options of the command."""

    once: bool
    interval_seconds: float
    as_json: bool


class Look(NamedTuple):
    """What a relay said at one time."""

    status: dict[str, Any]
    sessions: dict[str, dict[str, Any]]


def run_top(client: AdminClient, options: TopOptions) -> None:
    """Shows it until Ctrl-C, or once.

    Raises:
        UnavailableError: no relay answers.
    """
    console = Console(highlight=False, markup=False)
    before = _look(client)
    if options.as_json or options.once or not console.is_terminal:
        time.sleep(options.interval_seconds)
        shown = per_second(before, _look(client))
        if options.as_json:
            typer.echo(json.dumps(shown, indent=2))
        else:
            console.print(_page(shown, _SESSIONS_SHOWN))
        return
    with suppress(KeyboardInterrupt), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(options.interval_seconds)
            after = _look(client)
            room = max(1, console.size.height - _ROWS_FOR_THE_REST)
            live.update(_page(per_second(before, after), room), refresh=True)
            before = after


def _look(client: AdminClient) -> Look:
    return Look(client.status(), {session["session_id"]: session for session in client.sessions(active=True)})


def per_second(before: Look, after: Look) -> dict[str, Any]:
    """Rates between two looks at one relay, and how it stands at the second.

    A relay that began anew in between has smaller counts than before: all of what it has is new then.
    """
    seconds = max(after.status["time_seconds"] - before.status["time_seconds"], 1e-3)
    then, now = before.status["ports"], after.status["ports"]
    sessions = [_session(before.sessions.get(key), session, seconds) for key, session in after.sessions.items()]
    sessions.sort(key=lambda row: (-_bytes_of(row), row["session_id"]))
    dropped = {
        verdict: sum(_rate(then[port].get(verdict), now[port].get(verdict), "datagrams", seconds) for port in now)
        for verdict in sorted({verdict for port in now.values() for verdict in port} - {*_THROUGH})
    }
    return {
        "seconds": round(seconds, 3),
        **{
            direction: {
                f"{unit}_per_second": _rate(then[port].get("forwarded"), now[port].get("forwarded"), unit, seconds)
                for unit in ("datagrams", "bytes")
            }
            for direction, port in _DIRECTIONS.items()
        },
        "answered_per_second": sum(
            _rate(then[port].get("answered"), now[port].get("answered"), "datagrams", seconds) for port in now
        ),
        "dropped_per_second": {verdict: rate for verdict, rate in dropped.items() if rate},
        "dropped_in_all": {
            verdict: sum(now[port].get(verdict, {}).get("datagrams", 0) for port in now) for verdict in dropped
        },
        "sessions": sessions,
        **{key: after.status[key] for key in ("draining", "ready", "active_sessions", "users", "source", "fast_path")},
        "sessions_in_table": after.status["sessions"],
    }


def _session(before: dict[str, Any] | None, now: dict[str, Any], seconds: float) -> dict[str, Any]:
    then = before or {}
    return {
        "session_id": now["session_id"],
        "host_bound": now["host_bound"],
        "players_bound": now["players_bound"],
        **{
            direction: {
                f"{unit}_per_second": _rate(then.get(direction), now[direction], unit, seconds)
                for unit in ("datagrams", "bytes")
            }
            for direction in _DIRECTIONS
        },
        "dropped_per_second": _rate(then, now, "dropped", seconds),
    }


def _rate(then: dict[str, int] | None, now: dict[str, int] | None, unit: str, seconds: float) -> float:
    old, new = (then or {}).get(unit, 0), (now or {}).get(unit, 0)
    return round((new - old if new >= old else new) / seconds, 1)


def _bytes_of(row: dict[str, Any]) -> float:
    total: float = sum(row[direction]["bytes_per_second"] for direction in _DIRECTIONS)
    return total


def _page(shown: dict[str, Any], rows: int) -> Group:
    return Group(*_lines(shown), Text(), _table(shown["sessions"], rows))


def _lines(shown: dict[str, Any]) -> Iterator[Text]:
    users, source, fast_path = shown["users"], shown["source"], shown["fast_path"]
    state = "draining" if shown["draining"] else "running" if shown["ready"] else "no sessions yet"
    yield Text(
        f"{state:<12}{shown['active_sessions']} of {shown['sessions_in_table']} sessions active,"
        f" {users['host']} hosts and {users['player']} players of {users['authorized']} users bound"
    )
    for direction, name in (("to_host", "to hosts"), ("to_player", "to players")):
        rate = shown[direction]
        yield Text(f"{name:<12}{rate['datagrams_per_second']:,.0f} datagrams/s, {_size(rate['bytes_per_second'])}/s")
    yield Text(f"{'PINGs':<12}{shown['answered_per_second']:,.0f} answered/s")
    drops = ", ".join(f"{verdict} {rate:,.0f}/s" for verdict, rate in shown["dropped_per_second"].items())
    yield Text(f"{'dropped':<12}{drops or 'nothing'}", style="red" if drops else "")
    age = source["age_seconds"]
    problem = f", not followed: {source['problem']}" if source["problem"] else ""
    yield Text(
        f"{'source':<12}{'not read yet' if age is None else f'{age:.1f} s old'}{problem}",
        style="red" if problem else "",
    )
    kernel = (
        "off"
        if fast_path is None
        else f"{'on' if fast_path['up'] else 'taken off'}, {fast_path['bindings']} bindings served"
    )
    yield Text(f"{'fast path':<12}{kernel}")


def _table(sessions: list[dict[str, Any]], rows: int) -> Table | Text:
    if not sessions:
        return Text("nobody plays")
    table = Table(
        Column("session", no_wrap=True, overflow="ellipsis"),
        "host",
        Column("players", justify="right"),
        *(Column(title, justify="right", no_wrap=True) for title in ("to host", "", "to players", "", "dropped")),
        box=None,
    )
    for row in sessions[:rows]:
        rates = [
            text
            for direction in _DIRECTIONS
            for text in (
                f"{row[direction]['datagrams_per_second']:,.0f}/s",
                f"{_size(row[direction]['bytes_per_second'])}/s",
            )
        ]
        host = "yes" if row["host_bound"] else "no"
        table.add_row(row["session_id"], host, str(row["players_bound"]), *rates, f"{row['dropped_per_second']:,.0f}/s")
    if len(sessions) > rows:
        table.caption = f"and {len(sessions) - rows} more"
    return table


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
