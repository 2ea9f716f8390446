"""`relayd drain`: has the running relay take no new games, and waits for those that run."""

import json
import time
from typing import Any, NamedTuple

import typer
from rich.console import Console

from relayd.client.admin import AdminClient
from relayd.errors import UsageError
from relayd.settings import Settings

_LOOK_SECONDS = 0.2
_STILL_PLAYING = 1


class DrainOptions(NamedTuple):
    """Options of the command."""

    wait: bool
    limit_seconds: float | None
    undo: bool
    as_json: bool


def run_drain(settings: Settings, options: DrainOptions) -> int:
    """Does it and prints how far it is.

    Returns:
        The exit status: 0, or 1 if it was to wait and there are games that still run.

    Raises:
        UsageError: options that contradict each other.
        UnavailableError: no relay answers.
    """
    if options.undo and options.wait:
        raise UsageError("--undo and --wait: choose one; there is nothing to wait for")
    if options.limit_seconds is not None and not options.wait:
        raise UsageError("--limit says how long --wait waits; give that as well")
    client = AdminClient(settings.admin)
    status = client.undo_drain() if options.undo else client.drain()
    if options.wait:
        limit = options.limit_seconds if options.limit_seconds is not None else settings.drain.limit_seconds
        status = _wait(client, status, limit)
    if options.as_json:
        typer.echo(json.dumps(status, indent=2))
    else:
        typer.echo(_in_words(status))
    return _STILL_PLAYING if options.wait and not _is_done(status) else 0


def _wait(client: AdminClient, status: dict[str, Any], limit_seconds: float) -> dict[str, Any]:
    """Until nobody plays, the time is over, or somebody undid it."""
    began = time.monotonic()
    with Console(stderr=True).status(_in_words(status)) as shown:
        while status["draining"] and not _is_done(status):
            if limit_seconds and time.monotonic() - began >= limit_seconds:
                break
            time.sleep(_LOOK_SECONDS)
            status = client.drain_status()
            shown.update(_in_words(status))
    return status


def _is_done(status: dict[str, Any]) -> bool:
    return status["draining"] and not status["active_sessions"] and status["control_plane_told"] is not False


def _in_words(status: dict[str, Any]) -> str:
    if not status["draining"]:
        return "not draining: new games are taken"
    sessions, users = status["active_sessions"], status["bound_users"]
    running = f"{sessions} sessions with {users} users still play" if sessions else "nobody plays any more"
    told = ", the control plane is being told" if status["control_plane_told"] is False else ""
    return f"draining: {running}{told}"
