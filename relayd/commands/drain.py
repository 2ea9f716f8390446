"""`relayd drain`: has the running relay take no new games, and waits for those that run."""

import time
from typing import Annotated

import typer
from rich.console import Console

from relayd import settings
from relayd.admin.answers import DrainStatus
from relayd.client.admin import AdminClient
from relayd.commands.asking import print_json
from relayd.commands.options import AsJson, Config
from relayd.errors import UsageError

_LOOK_SECONDS = 0.2
_STILL_PLAYING = 1


def drain(
    wait: Annotated[
        bool, typer.Option("--wait", help="Return once nobody plays any more; status 1 if some do.")
    ] = False,
    limit: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SECONDS", help="With --wait: the longest wait; else drain.limit_seconds. 0: no limit."
        ),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take new games again.")] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Begins or undoes it, and prints how far it is. The exit status is 1 if it was to wait and some still play.

    Raises:
        UsageError: options that contradict each other.
        UnavailableError: no relay answers.
    """
    if undo and wait:
        raise UsageError("--undo and --wait: choose one; there is nothing to wait for")
    if limit is not None and not wait:
        raise UsageError("--limit says how long --wait waits; give that as well")
    loaded = settings.load(config)
    client = AdminClient(loaded, config)
    status = client.undo_drain() if undo else client.drain()
    if wait:
        status = _wait(client, status, limit if limit is not None else loaded.drain.limit_seconds)
    if as_json:
        print_json(status.fields())
    else:
        typer.echo(_in_words(status))
    if wait and not status.done:
        raise typer.Exit(_STILL_PLAYING)


def _wait(client: AdminClient, status: DrainStatus, limit_seconds: float) -> DrainStatus:
    """Until nobody plays, the time is over, or somebody undid it."""
    began = time.monotonic()
    with Console(stderr=True).status(_in_words(status)) as shown:
        while status.draining and not status.done:
            if limit_seconds and time.monotonic() - began >= limit_seconds:
                break
            time.sleep(_LOOK_SECONDS)
            status = client.drain_status()
            shown.update(_in_words(status))
    return status


def _in_words(status: DrainStatus) -> str:
    if not status.draining:
        return "not draining: new games are taken"
    sessions, users = status.active_sessions, status.bound_users
    running = f"{sessions} sessions with {users} users still play" if sessions else "nobody plays any more"
    told = ", the control plane is being told" if status.control_plane_told is False else ""
    return f"draining: {running}{told}"
