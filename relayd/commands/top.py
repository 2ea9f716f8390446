"""`relayd top`: what goes through the running relay at the moment, from the difference of two looks at it."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from relayd.admin.answers import NOTHING, Count, RelayStatus, SessionSummary
from relayd.client.admin import AdminClient
from relayd.commands.asking import print_json, running_relay
from relayd.commands.options import Config
from relayd.core.views import InterfaceState

_SESSIONS_SHOWN = 20
_ROWS_FOR_THE_REST = 14
_THROUGH = ("forwarded", "answered")
_DIRECTIONS = {"to_host": "client", "to_player": "server"}
"""Direction → the port at which what goes that way arrives."""


class Look(NamedTuple):
    """What a relay said at one time."""

    status: RelayStatus
    sessions: dict[str, SessionSummary]


def top(
    once: Annotated[
        bool, typer.Option("--once", help="Print once and return, as happens where there is no terminal.")
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, max=60, metavar="SECONDS", help="Between two looks at the relay.")
    ] = 1.0,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines, once.")] = False,
) -> None:
    """Shows it until Ctrl-C, or once.

    Raises:
        UnavailableError: no relay answers.
    """
    client = running_relay(config)
    console = Console(highlight=False, markup=False)
    before = _look(client)
    if as_json or once or not console.is_terminal:
        time.sleep(interval)
        shown = per_second(before, _look(client))
        if as_json:
            print_json(shown)
        else:
            console.print(page(shown, _SESSIONS_SHOWN))
        return
    with suppress(KeyboardInterrupt), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            after = _look(client)
            room = max(1, console.size.height - _ROWS_FOR_THE_REST)
            live.update(page(per_second(before, after), room), refresh=True)
            before = after


def _look(client: AdminClient) -> Look:
    return Look(client.status(), {session.session_id: session for session in client.sessions(active=True).sessions})


def per_second(before: Look, after: Look) -> dict[str, Any]:
    """Rates between two looks at one relay, and how it stands at the second.

    A relay that restarted in between has smaller counts than before: then all that it has counted is new.
    """
    seconds = max(after.status.time_seconds - before.status.time_seconds, 1e-3)
    then, now = before.status.ports, after.status.ports
    sessions = [_session(before.sessions.get(key), session, seconds) for key, session in after.sessions.items()]
    sessions.sort(key=lambda row: (-_bytes_of(row), row["session_id"]))
    dropped = {
        verdict: sum(_rates(then[port].get(verdict), now[port].get(verdict), seconds)[0] for port in now)
        for verdict in sorted({verdict for port in now.values() for verdict in port} - {*_THROUGH})
    }
    said = after.status.fields()
    return {
        "seconds": round(seconds, 3),
        **{
            direction: _way(then[port].get("forwarded"), now[port].get("forwarded"), seconds)
            for direction, port in _DIRECTIONS.items()
        },
        "answered_per_second": sum(
            _rates(then[port].get("answered"), now[port].get("answered"), seconds)[0] for port in now
        ),
        "dropped_per_second": {verdict: rate for verdict, rate in dropped.items() if rate},
        "lost_per_second": _lost(before.status, after.status, seconds),
        "dropped_in_all": {
            verdict: sum(now[port].get(verdict, NOTHING).datagrams for port in now) for verdict in dropped
        },
        "sessions": sessions,
        **{key: said[key] for key in ("draining", "ready", "active_sessions", "users", "source", "fast_path")},
        "sessions_in_table": after.status.sessions,
    }


def _lost(before: RelayStatus, after: RelayStatus, seconds: float) -> float:
    """Of what is counted as forwarded or answered, what interfaces of the fast path lost on its way out."""
    then = before.fast_path.lost if before.fast_path is not None else 0
    return _rate(then, after.fast_path.lost, seconds) if after.fast_path is not None else 0.0


def _session(before: SessionSummary | None, now: SessionSummary, seconds: float) -> dict[str, Any]:
    return {
        "session_id": now.session_id,
        "host_bound": now.host_bound,
        "players_bound": now.players_bound,
        "to_host": _way(before.to_host if before else None, now.to_host, seconds),
        "to_player": _way(before.to_player if before else None, now.to_player, seconds),
        "dropped_per_second": _rate(before.dropped if before else 0, now.dropped, seconds),
    }


def _way(then: Count | None, now: Count | None, seconds: float) -> dict[str, float]:
    datagrams, size = _rates(then, now, seconds)
    return {"datagrams_per_second": datagrams, "bytes_per_second": size}


def _rates(then: Count | None, now: Count | None, seconds: float) -> tuple[float, float]:
    """Datagrams and bytes a second."""
    old, new = then or NOTHING, now or NOTHING
    return _rate(old.datagrams, new.datagrams, seconds), _rate(old.bytes, new.bytes, seconds)


def _rate(old: int, new: int, seconds: float) -> float:
    return round((new - old if new >= old else new) / seconds, 1)


def _bytes_of(row: dict[str, Any]) -> float:
    total: float = sum(row[direction]["bytes_per_second"] for direction in _DIRECTIONS)
    return total


def page(shown: dict[str, Any], rows: int) -> Group:
    """What is shown, with so many sessions."""
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
    if shown["lost_per_second"]:
        lost = f"{shown['lost_per_second']:,.0f}/s lost by interfaces, of what is counted above"
        drops = f"{drops}, {lost}" if drops else lost
    yield Text(f"{'dropped':<12}{drops or 'nothing'}", style="red" if drops else "")
    age = source["age_seconds"]
    problem = f", not followed: {source['problem']}" if source["problem"] else ""
    yield Text(
        f"{'source':<12}{'not read yet' if age is None else f'{age:.1f} s old'}{problem}",
        style="red" if problem else "",
    )
    yield from _fast_path(fast_path)


def _fast_path(kernel: dict[str, Any] | None) -> Iterator[Text]:
    if kernel is None:
        yield Text(f"{'fast path':<12}off")
        return
    interfaces = kernel["interfaces"]
    on = sum(one["state"] == InterfaceState.FORWARDS for one in interfaces)
    where = "on" if kernel["up"] else f"on {on} of {len(interfaces)} interfaces" if on else "not on"
    yield Text(f"{'fast path':<12}{where}, {kernel['bindings']} bindings served")
    for one in interfaces:
        if one["problem"]:
            said = "; ".join(filter(None, (one["problem"], one["way_out"])))
            yield Text(f"{'':<12}{said}", style="red")


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
