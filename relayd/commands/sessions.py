"""`relayd sessions`: the sessions of the running relay, a line each."""

from enum import Enum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from relayd.admin.answers import SessionsPage, SessionSummary
from relayd.client.admin import AdminClient
from relayd.commands.asking import print_json, running_relay
from relayd.commands.options import AsJson, Config

_LINES = 50
"""What fits on a large terminal: thousands would only hide those that matter."""


class Sort(Enum):
    """What the first ones have most of."""

    AGE = "age"
    TRAFFIC = "traffic"


def sessions(
    active: Annotated[bool, typer.Option("--active", help="Only those that somebody is bound in.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help=f"So many at most; else {_LINES}, with --json all. 0: no limit."),
    ] = None,
    sort: Annotated[
        Sort, typer.Option(help="Those first that the relay has had longest, or that forwarded most bytes.")
    ] = Sort.AGE,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Prints them, and how many more there are.

    Raises:
        UnavailableError: no relay answers.
    """
    most = limit if limit is not None or as_json else _LINES
    page = _asked(running_relay(config), active, most or None, sort)
    if as_json:
        print_json(page.fields())
        return
    console = Console(highlight=False, markup=False)
    console.print(_table(page.sessions) if page.sessions else "nobody plays" if active else "no sessions")
    left = page.total_count - len(page.sessions)
    if left:
        typer.echo(f"and {left} more: --limit 0 shows all, --active those that somebody is bound in")


def _asked(client: AdminClient, active: bool, limit: int | None, sort: Sort) -> SessionsPage:
    if sort is Sort.AGE:
        return client.sessions(active, limit)
    page = client.sessions(active)
    most_first = sorted(page.sessions, key=_forwarded_bytes, reverse=True)
    return SessionsPage(total_count=page.total_count, sessions=most_first[:limit])


def _forwarded_bytes(session: SessionSummary) -> int:
    return session.to_host.bytes + session.to_player.bytes


def _table(listed: list[SessionSummary]) -> Table:
    table = Table(
        Column("session", no_wrap=True, overflow="fold"),
        "host",
        "players",
        "users",
        "to host",
        "to players",
        "dropped",
        box=None,
    )
    for session in listed:
        table.add_row(
            session.session_id,
            "yes" if session.host_bound else "no",
            str(session.players_bound),
            str(session.users),
            str(session.to_host.datagrams),
            str(session.to_player.datagrams),
            str(session.dropped),
        )
    return table
