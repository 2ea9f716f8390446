"""`relayd sessions`: the sessions of the running relay, a line each."""

from rich.console import Console
from rich.table import Column, Table

from relayd.commands.asking import print_json, running_relay
from relayd.commands.options import AsJson, Config


def sessions(config: Config = None, as_json: AsJson = False) -> None:
    """Prints all of them.

    Raises:
        UnavailableError: no relay answers.
    """
    found = running_relay(config).sessions()
    if as_json:
        print_json({"sessions": [session.fields() for session in found]})
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
    for session in found:
        table.add_row(
            session.session_id,
            "yes" if session.host_bound else "no",
            str(session.players_bound),
            str(session.users),
            str(session.to_host.datagrams),
            str(session.to_player.datagrams),
            str(session.dropped),
        )
    Console().print(table if found else "no sessions")
