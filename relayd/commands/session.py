"""`relayd session`: all that the running relay knows of one session."""

from rich.console import Console
from rich.table import Table

from relayd.admin.answers import BoundAt, PingSummary, UserDetails
from relayd.commands.asking import print_json, running_relay
from relayd.commands.options import AsJson, Config


def session(session_id: str, config: Config = None, as_json: AsJson = False) -> None:
    """Prints users, bindings, counters and drops.

    Raises:
        FatalError: there is no such session.
        UnavailableError: no relay answers.
    """
    found = running_relay(config).session(session_id)
    if as_json:
        print_json(found.fields())
        return
    console = Console()
    console.print(f"session {found.session_id}, token {found.authorization_token}")
    table = Table("user", "role", "bound at", "last seen", "connection id", "to host", "to player", box=None)
    for user in found.users:
        rows = [_cells(user, binding) for binding in user.bindings] or [_cells(user, None)]
        for cells in rows:
            table.add_row(*cells)
    console.print(table)
    for user in found.users:
        for binding in user.bindings:
            if binding.pings is not None:
                console.print(f"{user.role} {user.authorization_token}: {_in_words(binding.pings)}", soft_wrap=True)
    for reason, count in found.drops.items():
        console.print(f"dropped {count} × {reason}")


def _cells(user: UserDetails, binding: BoundAt | None) -> list[str]:
    where = ["", "", ""]
    if binding is not None:
        connection_id = str(binding.connection_id) if "connection_id" in binding.model_fields_set else ""
        where = [
            f"{binding.address.ip} {binding.address.port}",
            f"{binding.last_seen_seconds_ago:.1f} s ago",
            connection_id,
        ]
    return [
        user.authorization_token,
        user.role or "not bound",
        *where,
        str(user.to_host.datagrams),
        str(user.to_player.datagrams),
    ]


def _in_words(pings: PingSummary) -> str:
    jitter_ms = 1000 * pings.interval_jitter_seconds
    return f"{pings.heard} PINGs, {100 * pings.loss:.1f} % missed, interval jitter {jitter_ms:.1f} ms"
