"""What the commands that ask a running relay print: tables for people, JSON for machines."""

import json
from typing import Any

import typer
from rich.console import Console
from rich.table import Column, Table


def print_sessions(sessions: list[dict[str, Any]], as_json: bool) -> None:
    """Prints the list of sessions."""
    if as_json:
        typer.echo(json.dumps({"sessions": sessions}, indent=2))
        return
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
    for row in sessions:
        table.add_row(
            row["session_id"],
            "yes" if row["host_bound"] else "no",
            str(row["players_bound"]),
            str(row["users"]),
            str(row["to_host"]["datagrams"]),
            str(row["to_player"]["datagrams"]),
            str(row["dropped"]),
        )
    Console().print(table if sessions else "no sessions")


def print_session(session: dict[str, Any], as_json: bool) -> None:
    """Prints all of one session."""
    if as_json:
        typer.echo(json.dumps(session, indent=2))
        return
    console = Console()
    console.print(f"session {session['session_id']}, token {session['authorization_token']}")
    table = Table("user", "role", "bound at", "last seen", "connection id", "to host", "to player", box=None)
    for user in session["users"]:
        for binding in user["bindings"] or [None]:
            table.add_row(
                user["authorization_token"],
                user["role"] or "not bound",
                f"{binding['address']['ip']} {binding['address']['port']}" if binding else "",
                f"{binding['last_seen_seconds_ago']:.1f} s ago" if binding else "",
                str(binding.get("connection_id", "")) if binding else "",
                str(user["to_host"]["datagrams"]),
                str(user["to_player"]["datagrams"]),
            )
    console.print(table)
    for user in session["users"]:
        for binding in user["bindings"]:
            if "pings" in binding:
                console.print(
                    f"{user['role']} {user['authorization_token']}: {_pings(binding['pings'])}", soft_wrap=True
                )
    for reason, count in session["drops"].items():
        console.print(f"dropped {count} × {reason}")


def _pings(pings: dict[str, Any]) -> str:
    jitter_ms = 1000 * pings["interval_jitter_seconds"]
    return f"{pings['heard']} PINGs, {100 * pings['loss']:.1f} % missed, interval jitter {jitter_ms:.1f} ms"


def print_explanation(explanation: dict[str, Any], as_json: bool) -> None:
    """Prints what was found, what to do about it, and what happened of late."""
    if as_json:
        typer.echo(json.dumps(explanation, indent=2))
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for finding in explanation["findings"]:
        console.print(f"{finding['code']}{'' if finding['current'] else ' (earlier)'}")
        console.print(f"    {finding['sentence']}")
        if finding["advice"]:
            console.print(f"    → {finding['advice']}")
    if explanation["changes"]:
        console.print("of late")
    for change in explanation["changes"]:
        who = f"user {change['user']}, " if change["user"] else ""
        where = f", {change['port']} port, {change['address']}" if change["port"] else ""
        often = f", {change['times']} times" if change["times"] > 1 else ""
        what = f"{who}{change['what']}, session {change['session_id']}"
        console.print(f"    {change['seconds_ago']:.1f} s ago  {what}{where}{often}")
